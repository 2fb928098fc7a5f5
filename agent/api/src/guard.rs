//! The table of methods, in front of the server: who is not in a row does not reach it.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Extensions, Request, Response};
use tonic::codegen::{BoxFuture, Service};
use tonic::server::NamedService;

use crate::methods::{Asker, judge};

/// Says who is on the other end of a connection, from what the transport noted; or why that is not known.
pub trait Identify: Clone + Send + Sync + 'static {
    /// Looks at what the transport noted. Called for every call, so that who lost their rights is refused at once.
    ///
    /// # Errors
    /// Why nothing is answered, for people.
    fn identify(&self, noted: &Extensions) -> Result<Asker, String>;
}

impl<F> Identify for F
where
    F: Fn(&Extensions) -> Result<Asker, String> + Clone + Send + Sync + 'static,
{
    fn identify(&self, noted: &Extensions) -> Result<Asker, String> {
        self(noted)
    }
}

/// A service behind the table.
#[derive(Clone, Debug)]
pub struct Guarded<S, I> {
    inner: S,
    identify: I,
    hand_ins: Arc<Semaphore>,
}

impl<S, I> Guarded<S, I> {
    pub(crate) fn new(inner: S, identify: I) -> Self {
        let hand_ins = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self {
            inner,
            identify,
            hand_ins,
        }
    }

    /// Takes in at most so many submissions at once, all connections together: each may be as long as the longest
    /// message. Further ones wait unread.
    #[must_use]
    pub fn with_hand_ins(mut self, most: usize) -> Self {
        self.hand_ins = Arc::new(Semaphore::new(most));
        self
    }
}

impl<S: NamedService, I> NamedService for Guarded<S, I> {
    const NAME: &'static str = S::NAME;
}

impl<S, I, B> Service<Request<B>> for Guarded<S, I>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
    I: Identify,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let asker = self.identify.identify(request.extensions());
        let admitted = asker.and_then(|asker| {
            let method = judge(request.uri().path(), asker.role)?;
            Ok((asker, method))
        });
        match admitted {
            Ok((asker, method)) if method.name == "Submit" => {
                request.extensions_mut().insert(asker);
                let hand_ins = Arc::clone(&self.hand_ins);
                // What was found ready is called; what is left in its place is asked again before the next call.
                let next = self.inner.clone();
                let mut inner = std::mem::replace(&mut self.inner, next);
                Box::pin(async move {
                    let _place = hand_ins.acquire_owned().await;
                    inner.call(request).await
                })
            }
            Ok((asker, _method)) => {
                request.extensions_mut().insert(asker);
                Box::pin(self.inner.call(request))
            }
            Err(why) => Box::pin(std::future::ready(Ok(
                Status::permission_denied(why).into_http()
            ))),
        }
    }
}
