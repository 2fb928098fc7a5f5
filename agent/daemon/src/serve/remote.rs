//! The remote API: the same service as at the socket, for devices that proved their key to the links.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lab_agent_api::{Asker, Handler, service};
use lab_crdt_model::{AuthorId, Standing};
use lab_mesh_net::ApiStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Extensions;
use tonic::transport::Server;
use tonic::transport::server::Connected;

/// Most calls at once on one connection; further ones wait.
const CALLS_PER_CONNECTION_MAX: u32 = 16;

/// Most submissions at once, all devices together: their bytes are held until they are answered.
const HAND_INS_MAX: usize = 4;
/// How long a call may take until its answer begins; who sends too slowly is refused.
const CALL_MAX: Duration = Duration::from_secs(30);

/// Whose devices may ask at the moment, and as what.
pub(crate) type Devices = Arc<BTreeMap<AuthorId, Standing>>;

/// Answers devices until `stop` or until no more come; calls that are being answered are finished.
pub(crate) async fn serve_remote<H: Handler>(
    streams: mpsc::Receiver<ApiStream>,
    devices: watch::Receiver<Devices>,
    handler: H,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let identify = move |noted: &Extensions| {
        let Key(key) = *noted.get().ok_or("the device has no key")?;
        let standing = devices.borrow().get(&key).copied();
        Ok(Asker::device(key, standing))
    };
    let incoming = ReceiverStream::new(streams).map(|stream| {
        tracing::debug!(key = %stream.key().short(), "a device asks");
        Ok::<_, io::Error>(Device(stream))
    });
    Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX as usize)
        .max_concurrent_streams(CALLS_PER_CONNECTION_MAX)
        .timeout(CALL_MAX)
        .add_service(service(handler, identify).with_hand_ins(HAND_INS_MAX))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

/// The key that a connection proved.
#[derive(Clone, Copy, Debug)]
struct Key(AuthorId);

/// A device's connection.
#[derive(Debug)]
struct Device(ApiStream);

impl Connected for Device {
    type ConnectInfo = Key;

    fn connect_info(&self) -> Key {
        Key(self.0.key())
    }
}

impl AsyncRead for Device {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Device {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
