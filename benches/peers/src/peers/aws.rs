use std::time::Duration;

use aws_smithy_async::rt::sleep::TokioSleep;
use aws_smithy_async::time::SystemTimeSource;
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime_api::client::identity::http::Token;
use aws_smithy_runtime_api::client::identity::{
    Identity, IdentityFuture, ResolveCachedIdentity, ResolveIdentity, SharedIdentityCache,
    SharedIdentityResolver,
};
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};
use aws_smithy_types::config_bag::ConfigBag;
use http::HeaderValue;

use super::{Peer, bearer};
use crate::server::{self, TokenServer};

/// Its cache with a bearer token, as its services with bearer authentication use it.
pub struct Aws {
    cache: SharedIdentityCache,
    resolver: SharedIdentityResolver,
    components: RuntimeComponents,
    bag: ConfigBag,
}

#[derive(Debug)]
struct Fetch {
    url: String,
    http: reqwest::Client,
}

impl ResolveIdentity for Fetch {
    fn resolve_identity<'a>(&'a self, _: &'a RuntimeComponents, _: &'a ConfigBag) -> IdentityFuture<'a> {
        IdentityFuture::new(async {
            let answer = self.http.post(&self.url).send().await?.error_for_status()?;
            let answer: serde_json::Value = answer.json().await?;
            let token = answer["access_token"].as_str().ok_or("no token")?;
            let lifetime = Duration::from_secs(answer["expires_in"].as_u64().ok_or("no lifetime")?);
            let ends = std::time::UNIX_EPOCH + server::now() + lifetime;
            Ok(Identity::new(Token::new(token, Some(ends)), Some(ends)))
        })
    }
}

impl Peer for Aws {
    const NAME: &str = "aws IdentityCache";

    async fn new(server: &TokenServer) -> Self {
        let components = RuntimeComponentsBuilder::for_tests()
            .with_time_source(Some(SystemTimeSource::new()))
            .with_sleep_impl(Some(TokioSleep::new()))
            .build();
        Self {
            cache: IdentityCache::lazy().buffer_time(Duration::from_secs(3)).build(),
            resolver: SharedIdentityResolver::new(Fetch {
                url: server.url("/token"),
                http: reqwest::Client::new(),
            }),
            components: components.expect("components"),
            bag: ConfigBag::base(),
        }
    }

    async fn header(&self) -> Option<HeaderValue> {
        let identity = self
            .cache
            .resolve_cached_identity(self.resolver.clone(), &self.components, &self.bag)
            .await
            .ok()?;
        bearer(identity.data::<Token>()?.token())
    }
}
