use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderValue, Request, Response};

use super::transport::{Transport, TransportError};
use crate::error::Result;

/// A transport that says who sends: at the token endpoint, and wherever else an authorization server is asked.
pub(crate) struct Introduced {
    pub(crate) by: Arc<dyn Transport>,
    pub(crate) user_agent: HeaderValue,
}

impl Transport for Introduced {
    fn send(
        &self,
        mut request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        request.headers_mut().insert(USER_AGENT, self.user_agent.clone());
        self.by.send(request)
    }
}
