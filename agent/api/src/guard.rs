//! The table of methods, in front of the server: who is not in a row does not reach it.

use std::convert::Infallible;
use std::task::{Context, Poll};

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
}

impl<S, I> Guarded<S, I> {
    pub(crate) const fn new(inner: S, identify: I) -> Self {
        Self { inner, identify }
    }
}

impl<S: NamedService, I> NamedService for Guarded<S, I> {
    const NAME: &'static str = S::NAME;
}

impl<S, I, B> Service<Request<B>> for Guarded<S, I>
where
    S: Service<Request<B>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
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
            judge(request.uri().path(), asker.role)?;
            Ok(asker)
        });
        match admitted {
            Ok(asker) => {
                request.extensions_mut().insert(asker);
                Box::pin(self.inner.call(request))
            }
            Err(why) => Box::pin(std::future::ready(Ok(
                Status::permission_denied(why).into_http()
            ))),
        }
    }
}
