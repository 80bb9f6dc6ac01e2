use std::sync::Arc;
use std::time::Duration;

use super::transport::Redirects;
use super::url::BaseUrl;
use super::{Client, Inner, transport};
use crate::error::Result;
use crate::source::{Builder, Config};

/// Sets up a [`Client`]; [`Client::builder`] begins one.
pub type ClientBuilder = Builder<Client>;

impl Builder<Client> {
    /// The transport of API calls. Token requests never go over it, and the network settings of this builder do not
    /// hold for it.
    ///
    /// By default all clients made in a runtime share one: 10 s to connect, no limit on the whole, idle connections closed
    /// after 4 s (servers close them after 5 s or more, and a call that is sent just then fails), and
    /// [`redirect_policy`](crate::redirect_policy), without which a chain of redirects can carry a token away. Give
    /// your own client that policy as well, or one that follows no redirects. Under [`dpop`](Self::dpop) the default one
    /// follows none, and neither should yours: a proof is good for one URL only, so the next would refuse the call.
    pub fn http_client(mut self, client: reqwest::Client) -> Self {
        self.config.http_client = Some(client);
        self
    }

    /// How long a whole call may take: the wait for a token, sending, a second sending after a 401, and reading the
    /// body, together. There is no such limit by default; [`RequestBuilder::timeout`](crate::RequestBuilder::timeout)
    /// overrides it for one call.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.timeout = Some(timeout);
        self
    }

    /// Makes the client. Nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`Configuration`](crate::ErrorKind::Configuration) where the settings are wrong or do not go together.
    pub fn build(self) -> Result<Client> {
        Client::assemble(self, transport::shared)
    }
}

impl Client {
    pub(super) fn assemble<T>(
        mut builder: Builder<T>,
        default: impl FnOnce(Redirects) -> Result<Arc<reqwest::Client>>,
    ) -> Result<Self> {
        builder.config.fill();
        let environment = builder.config.environment.clone();
        Self::assembled(builder, default).map_err(|error| Config::naming(environment.as_ref(), error))
    }

    fn assembled<T>(
        builder: Builder<T>,
        default: impl FnOnce(Redirects) -> Result<Arc<reqwest::Client>>,
    ) -> Result<Self> {
        let config = &builder.config;
        let user_agent = builder.parsed_user_agent()?;
        let base = builder.parsed_base_url()?.map(BaseUrl::new).transpose()?;
        let redirects = if config.dpop.is_some() { Redirects::Never } else { Redirects::Guarded };
        let http = match config.http_client.clone() {
            Some(own) => Arc::new(own),
            None if config.network.is_default() => default(redirects)?,
            None => Arc::new(transport::new(&config.network, redirects)?),
        };
        let timeout = config.timeout;
        let source = builder.into_source()?;
        Ok(Self(Arc::new(Inner { source, http, base, timeout, user_agent })))
    }
}
