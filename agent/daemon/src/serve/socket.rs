//! The socket itself.

use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lab_agent_api::{Handler, service};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};

use super::credentials::Admission;
use crate::accounts::Accounts;

/// Most connections at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// Most calls at once on one connection; further ones wait.
const CALLS_PER_CONNECTION_MAX: usize = 16;

/// Why the socket could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there: another agent with the same socket.
    #[error("listen at {}: another agent answers there", path.display())]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// Something that is not a socket has its name.
    #[error("listen at {}: there is something that is not a socket", path.display())]
    NotASocket {
        /// Where.
        path: PathBuf,
    },
    /// The machine's fault.
    #[error("{step} {}", path.display())]
    System {
        /// What was being done.
        step: &'static str,
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that listens; removed when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: Option<UnixListener>,
    path: PathBuf,
    admission: Admission,
}

/// Opens the socket with mode 0660, for the agent's user and the group, if there is such a group.
///
/// A dead socket of an agent that was killed is replaced; a living one is not.
pub(crate) fn bind(path: &Path, group: &str, accounts: Accounts) -> Result<Socket, SocketError> {
    let failed = |step| {
        move |source| SocketError::System {
            step,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(folder) = path.parent() {
        let made = std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder);
        made.map_err(failed("make the folder of"))?;
    }
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(source) => return Err(failed("look at")(source)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_socket) => {
            if std::os::unix::net::UnixStream::connect(path).is_ok() {
                return Err(SocketError::InUse {
                    path: path.to_owned(),
                });
            }
            std::fs::remove_file(path).map_err(failed("remove the dead socket"))?;
        }
    }
    let listener = UnixListener::bind(path).map_err(failed("listen at"))?;
    let gid = accounts.group(group).ok();
    let gid = gid.filter(|gid| match chown(path, None, Some(*gid)) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(group, why = %error, "the socket could not be given to its group");
            false
        }
    });
    let mode = if gid.is_some() { 0o660 } else { 0o600 };
    let opened = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
    opened.map_err(failed("set the mode of"))?;
    let own_uid = rustix::process::geteuid().as_raw();
    let admission = Admission {
        own_uid,
        gid,
        accounts,
    };
    Ok(Socket {
        listener: Some(listener),
        path: path.to_owned(),
        admission,
    })
}

/// Answers calls until `stop`; calls that are being answered are finished.
pub(crate) async fn serve<H: Handler>(
    mut socket: Socket,
    handler: H,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let listener = socket.listener.take().expect("a socket is served once");
    let admission = socket.admission.clone();
    let identify = move |noted: &_| admission.identify(noted);
    let (accepted, connections) = mpsc::channel(1);
    let server = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .add_service(service(handler, identify))
        .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop);
    tokio::select! {
        served = server => served,
        () = accept(listener, accepted) => Ok(()),
    }
}

/// Hands over connections as places become free. Ends when nobody takes them.
async fn accept(listener: UnixListener, accepted: mpsc::Sender<io::Result<Counted>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _address)) => {
                if accepted
                    .send(Ok(Counted {
                        stream,
                        _place: place,
                    }))
                    .await
                    .is_err()
                {
                    return std::future::pending().await;
                }
            }
            Err(error) => {
                // Out of file descriptors, most likely: they come back as connections close.
                tracing::warn!(why = %error, "a connection to the socket could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket that stays behind is found dead by the next agent.
        let _left = std::fs::remove_file(&self.path);
    }
}

/// A connection that occupies a place.
#[derive(Debug)]
struct Counted {
    stream: UnixStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Counted {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use lab_agent_api::{
        Client, ClientError, End, Info, Notices, Prepared, Refusal, Root, ViewMask,
    };
    use lab_crdt_model::view::ReplicaView;
    use lab_crdt_model::{AuthorId, Caller, MeshId, NodeId, StatementId};
    use tokio::sync::oneshot;

    use super::*;

    /// Says who it is and nothing else.
    struct Mute;

    impl Handler for Mute {
        async fn info(&self) -> Result<Info, Refusal> {
            Ok(Info {
                node: NodeId([1; 32]),
                mesh: MeshId([2; 32]),
                mesh_name: "home".into(),
                version: "0".into(),
                uptime_ms: 0,
                allows_faults: false,
                addresses: Vec::<SocketAddr>::new(),
                pid: 1,
            })
        }
        async fn view(&self, _: ViewMask) -> Result<Box<ReplicaView>, Refusal> {
            std::future::pending().await
        }
        async fn suppose(&self, _: Vec<End>) -> Result<Box<ReplicaView>, Refusal> {
            std::future::pending().await
        }
        async fn prepare(&self, _: AuthorId) -> Result<Prepared, Refusal> {
            std::future::pending().await
        }
        async fn root(&self) -> Result<Root, Refusal> {
            std::future::pending().await
        }
        async fn submit(
            &self,
            _: Caller,
            _: Vec<bytes::Bytes>,
        ) -> Result<Vec<StatementId>, Refusal> {
            std::future::pending().await
        }
        async fn audit(&self, _: Option<NodeId>) -> Result<Vec<bytes::Bytes>, Refusal> {
            std::future::pending().await
        }
        async fn watch(&self) -> Result<Notices, Refusal> {
            std::future::pending().await
        }
        async fn block(&self, _: Vec<NodeId>) -> Result<(), Refusal> {
            std::future::pending().await
        }
    }

    fn open(path: &Path) -> Result<Socket, SocketError> {
        bind(path, "no-such-group", Accounts::system())
    }

    #[tokio::test]
    async fn the_agents_own_user_is_answered_and_the_socket_goes_with_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/lab.sock");
        let socket = open(&path).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let mode = path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);

        let served = serve(socket, Mute, async {
            let _asked = stopped.await;
        });
        let asked = async {
            let client = Client::connect(&path).await.unwrap();
            assert_eq!(client.info().await.unwrap().mesh_name, "home");
            stop.send(()).unwrap();
        };
        let (outcome, ()) = tokio::join!(served, asked);

        outcome.unwrap();
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_user_who_is_not_admitted_is_told_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.sock");
        let mut socket = open(&path).unwrap();
        let me = rustix::process::geteuid().as_raw();
        if me == 0 {
            return; // Root is always admitted.
        }
        socket.admission.own_uid = me + 1;

        let asked = async {
            Client::connect(&path)
                .await
                .unwrap()
                .info()
                .await
                .unwrap_err()
        };
        let error = tokio::select! {
            _ = serve(socket, Mute, std::future::pending()) => unreachable!(),
            error = asked => error,
        };

        assert!(matches!(error, ClientError::Denied { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn more_connections_than_places_wait_and_are_answered_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.sock");
        let socket = open(&path).unwrap();

        let asked = async {
            let mut clients = Vec::new();
            for _ in 0..CONNECTIONS_MAX {
                let client = Client::connect(&path).await.unwrap();
                client.info().await.unwrap();
                clients.push(client);
            }
            let late = UnixStream::connect(&path).await.unwrap();
            drop(late);
            clients.clear();
            let client = Client::connect(&path).await.unwrap();
            client.info().await.unwrap();
        };
        tokio::select! {
            _ = serve(socket, Mute, std::future::pending()) => unreachable!(),
            () = asked => {}
        }
    }

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());

        let first = open(&path).unwrap();

        assert!(matches!(open(&path), Err(SocketError::InUse { .. })));
        assert!(path.exists());
        drop(first);
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lab.sock");
        std::fs::write(&path, "precious").unwrap();

        assert!(matches!(open(&path), Err(SocketError::NotASocket { .. })));

        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }
}
