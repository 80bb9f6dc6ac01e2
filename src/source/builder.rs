use std::fmt;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::runtime::Handle;
use url::Url;

use super::TokenSource;
use super::defaults::Defaults;
use super::ending::Revocation;
use super::family::{Family, RefusedWhen};
use super::from_env::FromEnv;
use crate::clock::Clock;
use crate::credentials::{ApiKey, AppCredentials, CredentialCell, CredentialSource};
use crate::error::{Error, Result};
use crate::grant::{
    ClientAuth, Discovery, Dpop, GrantRequest, HttpTransport, Introduced, Server, TokenEndpoint, Transport,
};
use crate::network::Network;
use crate::origin::{TrustedOrigins, parse_origin, parse_secure, shown_text};
use crate::renewal::{Held, RenewalPolicy};
use crate::secret::SecretString;
use crate::user_agent;

const TOKEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets up a [`TokenSource`], a [`Client`](crate::Client) or a blocking client: what they have in common.
///
/// Either `issuer` or `token_url` is needed; everything else has a default. Mistakes are told by `build`, without a
/// word to any server.
pub struct Builder<T> {
    pub(crate) config: Config,
    target: PhantomData<fn() -> T>,
}

/// All that was set.
pub(crate) struct Config {
    credentials: CredentialSource,
    pub(super) issuer: Option<String>,
    pub(super) token_url: Option<String>,
    /// `issuer` and `token_url` came from the environment; a setter of either replaces both.
    pub(super) server_from_env: bool,
    /// What a builder was set up by, if that was the environment.
    pub(crate) environment: Option<FromEnv>,
    pub(super) revoke_on_shutdown: bool,
    pub(super) revocation_url: Option<String>,
    pub(super) request: GrantRequest,
    pub(super) client_auth: Option<ClientAuth>,
    pub(crate) dpop: Option<Dpop>,
    pub(super) base_url: Option<String>,
    trusted_origins: Vec<String>,
    allow_insecure_http: bool,
    refused_when: Option<RefusedWhen>,
    policy: RenewalPolicy,
    token_timeout: Duration,
    pub(crate) timeout: Option<Duration>,
    pub(crate) http_client: Option<reqwest::Client>,
    pub(crate) network: Network,
    pub(super) user_agent: Option<String>,
    pub(crate) defaults: Defaults,
    pub(crate) runtime: Option<Handle>,
    pub(super) clock: Clock,
    transport: Option<Arc<dyn Transport>>,
    /// Where `check` keeps what was asked.
    seed: Option<u64>,
    name: Option<Arc<str>>,
    /// After a fork: what the parent held.
    forked: Option<Option<Arc<Held>>>,
    /// The first mistake that a setter could not tell of.
    pub(super) mistake: Option<Error>,
}

impl Config {
    /// Makes room for a server that is set explicitly.
    fn forget_server_from_env(&mut self) {
        self.replaces("issuer");
        self.replaces("token_url");
        if std::mem::take(&mut self.server_from_env) {
            (self.issuer, self.token_url) = (None, None);
        }
    }
}

impl<T> Builder<T> {
    pub(crate) fn new(app_id: String, app_secret: SecretString) -> Self {
        Self::new_with(AppCredentials::new(app_id, app_secret).into())
    }

    pub(crate) fn new_with(credentials: CredentialSource) -> Self {
        let config = Config {
            credentials,
            issuer: None,
            token_url: None,
            server_from_env: false,
            environment: None,
            revoke_on_shutdown: false,
            revocation_url: None,
            request: GrantRequest::default(),
            client_auth: None,
            dpop: None,
            base_url: None,
            trusted_origins: Vec::new(),
            allow_insecure_http: false,
            refused_when: None,
            policy: RenewalPolicy::default(),
            token_timeout: TOKEN_TIMEOUT,
            timeout: None,
            http_client: None,
            network: Network::default(),
            user_agent: None,
            defaults: Defaults::NONE,
            runtime: None,
            clock: Clock::System,
            transport: None,
            seed: None,
            name: None,
            forked: None,
            mistake: None,
        };
        Self { config, target: PhantomData }
    }

    pub(crate) fn new_from<K: TryInto<ApiKey, Error: Into<Error>>>(key: K) -> Self {
        Self::new_from_read(key.try_into().map_err(Into::into))
    }

    pub(crate) fn new_from_read(key: Result<ApiKey>) -> Self {
        Self::new_with(key.map_or_else(CredentialSource::mistaken, Into::into))
    }

    /// The authorization server's issuer identifier; its endpoints are found by discovery (RFC 8414, then OpenID
    /// Connect Discovery), at the first read. It must be the very string that the server's metadata names. `build` refuses
    /// both this and [`token_url`](Self::token_url).
    pub fn issuer(mut self, issuer: impl Into<String>) -> Self {
        self.config.forget_server_from_env();
        self.config.issuer = Some(issuer.into());
        self
    }

    /// The token endpoint (RFC 6749 3.2), for servers without discovery. `build` refuses both this and
    /// [`issuer`](Self::issuer).
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.config.forget_server_from_env();
        self.config.token_url = Some(url.into());
        self
    }

    /// The API that the token is for, as Auth0 and others name it: the parameter `audience`.
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.config.replaces("audience");
        self.config.request.audience = Some(audience.into());
        self
    }

    /// The API that the token is for, by the standard: the parameter `resource` (RFC 8707), an absolute URI without
    /// fragment. Entra ID v1 and AD FS take the id or the name of an API instead. It can be given several times.
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        if self.config.replaces("resource") {
            self.config.request.resources.clear();
        }
        self.config.request.resources.push(resource.into());
        self
    }

    /// The scopes to ask for, separated by spaces (RFC 6749 3.3). Given again, it adds to them.
    pub fn scope(mut self, scope: impl AsRef<str>) -> Self {
        if self.config.replaces("scope") {
            self.config.request.scopes.clear();
        }
        self.config.request.scopes.push(scope.as_ref().to_owned());
        self
    }

    /// One more parameter of the token request, where a server wants one.
    pub fn token_param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.request.params.push((name.into(), value.into()));
        self
    }

    /// How the client authenticates at the token endpoint. By default what discovery announces chooses,
    /// `client_secret_basic` before `client_secret_post`; [`ClientAuth`] tells the rest.
    pub fn client_auth(mut self, method: impl Into<ClientAuth>) -> Self {
        self.config.replaces("client_auth");
        self.config.client_auth = Some(method.into());
        self
    }

    /// Has tokens bound to a key by DPoP (RFC 9449) and sends a proof with every request: [`Dpop::new`], or
    /// [`Dpop::with_key`]. A token of the type Bearer is refused then. Without it, one of the type DPoP is.
    pub fn dpop(mut self, dpop: Dpop) -> Self {
        self.config.dpop = Some(dpop);
        self
    }

    /// The API's base URL, to whose path the paths of calls are appended. The token may go to its origin.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.config.replaces("base_url");
        self.config.base_url = Some(url.into());
        self
    }

    /// Adds an origin (scheme, host and port of the URL) to which the token may go. `ws` and `wss` count as `http` and `https`.
    pub fn trusted_origin(mut self, url: impl Into<String>) -> Self {
        self.config.trusted_origins.push(url.into());
        self
    }

    /// Lets secret and token go over plain http to hosts other than loopback. For test networks only: whoever
    /// listens there has both.
    pub fn allow_insecure_http(mut self) -> Self {
        self.config.allow_insecure_http = true;
        self
    }

    /// Names answers of the API that refuse the token in words of their own, such as a 200 or 419 with a code in a header. Each
    /// is answered as a 401 is: the token is renewed, once per cooldown, and the call is sent once more. It is asked
    /// about answers of every status, only from trusted origins, and maybe more than once about one; it must not block.
    /// Bodies are not read: if the code is in the body, call [`TokenSource::invalidate`].
    ///
    /// Without it a 401 counts (see [`TokenSource::pass`]), and a 400 or 403 with `error="invalid_token"` (RFC 6750 3.1).
    ///
    /// ```
    /// # let builder = evertoken::Client::builder("my-app", "my-secret");
    /// let builder = builder.refused_when(|status, headers| {
    ///     status.as_u16() == 419 || headers.get("x-error-code").is_some_and(|code| code == "TOKEN_EXPIRED")
    /// });
    /// # drop(builder);
    /// ```
    pub fn refused_when(
        mut self,
        refused: impl Fn(StatusCode, &HeaderMap) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.config.refused_when = Some(Arc::new(refused));
        self
    }

    /// How the token is kept fresh.
    pub fn renewal(mut self, policy: RenewalPolicy) -> Self {
        self.config.policy = policy;
        self
    }

    /// How long a caller waits for a token at most, 10 s by default. Where a call's own timeout leaves less, that
    /// counts.
    pub fn token_timeout(mut self, timeout: Duration) -> Self {
        self.config.token_timeout = timeout;
        self
    }

    /// The name by which logs and metrics tell this client from others of the program: the field and label `client`. By default
    /// it is the app id.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = Some(name.into()).filter(|name| !name.is_empty()).map(Into::into);
        self
    }

    /// Who sends, such as `acme-sdk/1.2`: the `User-Agent` (RFC 9110 10.1.5) of token requests and of this client's calls,
    /// with ours behind it: `acme-sdk/1.2 evertoken/0.1.0`. By default it is ours alone, or what an `http_client` has. A
    /// call with a `User-Agent` of its own keeps it.
    pub fn user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.config.user_agent = Some(user_agent.into());
        self
    }

    /// The tokio runtime on which the token is renewed; by default that of the first reader. It needs its time and
    /// I/O drivers.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.config.runtime = Some(runtime);
        self
    }

    /// Replaces the clocks.
    #[cfg(feature = "testing")]
    pub fn clock(mut self, clock: Arc<dyn crate::clock::TimeSource>) -> Self {
        self.config.clock = Clock::Injected(clock);
        self
    }

    /// Replaces what carries token requests.
    #[cfg(feature = "testing")]
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.config.transport = Some(transport);
        self
    }

    /// Seeds all jitter, so that a run can be replayed.
    #[cfg(feature = "testing")]
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = Some(seed);
        self
    }

    /// For a process that was forked: the source takes over what `parent` held, renews it at a time of its own, and shares
    /// nothing that a thread of the parent's may have had locked. `seed` must be another one in each process. For
    /// bindings only.
    #[doc(hidden)]
    pub fn forked_from(mut self, parent: &TokenSource, seed: u64) -> Self {
        self.config.forked = Some(parent.held());
        self.config.seed = Some(seed);
        self
    }

    /// The same settings for another kind of client.
    #[cfg(feature = "blocking")]
    pub(crate) fn retarget<U>(self) -> Builder<U> {
        Builder { config: self.config, target: PhantomData }
    }

    pub(crate) fn into_source(mut self) -> Result<TokenSource> {
        self.config.fill();
        let environment = self.config.environment.clone();
        for problem in environment.iter().flat_map(|environment| &environment.unknown) {
            tracing::warn!(target: "evertoken", problem, "odd environment");
        }
        self.assembled().map_err(|error| Config::naming(environment.as_ref(), error))
    }

    fn assembled(self) -> Result<TokenSource> {
        let user_agent = self.parsed_user_agent()?;
        let (mistake_of_environment, no_server) =
            (self.config.mistake_of_environment(), self.config.no_server());
        let Config {
            credentials,
            issuer,
            token_url,
            server_from_env: _,
            environment: _,
            revoke_on_shutdown,
            revocation_url,
            request,
            client_auth,
            dpop,
            base_url,
            trusted_origins,
            allow_insecure_http,
            refused_when,
            policy,
            token_timeout,
            network,
            runtime,
            clock,
            transport,
            seed,
            name,
            forked,
            mistake,
            timeout: _,
            http_client: _,
            user_agent: _,
            defaults: _,
        } = self.config;
        if let Some(mistake) = mistake {
            return Err(mistake);
        }
        if let Some(mistake) = mistake_of_environment {
            return Err(mistake);
        }
        let needs_secret = client_auth.as_ref().is_none_or(ClientAuth::needs_secret);
        let credentials = Arc::new(CredentialCell::open(credentials, needs_secret)?);
        policy.validate()?;
        let request = request.checked()?;
        let insecure = allow_insecure_http;
        let revocation = Revocation::checked(
            revoke_on_shutdown,
            revocation_url.as_deref(),
            token_url.is_none(),
            insecure,
        )?;
        let server = match (token_url, issuer) {
            (Some(_), Some(_)) => {
                return Err(Error::configuration("`issuer` and `token_url` are both set")
                    .advice("keep `issuer` if the server has discovery, else `token_url`"));
            }
            (Some(url), None) => Server::token_url(&url, insecure)?,
            (None, Some(issuer)) => Server::issuer(&issuer, insecure)?,
            (None, None) => return Err(no_server),
        };
        let mut origins = TrustedOrigins::default();
        if let Some(url) = &base_url {
            origins.add(&parse_secure("`base_url`", url, insecure)?);
        }
        for url in &trusted_origins {
            origins.add(&parse_origin("`trusted_origin`", url, insecure)?);
        }
        if client_auth.as_ref().is_some_and(ClientAuth::is_mutual_tls) && !network.has_identity() {
            return Err(Error::configuration(
                "`client_auth` is mutual TLS, but the client has no certificate",
            )
            .advice("give it one with `client_certificate`"));
        }
        let transport = match transport {
            Some(transport) => transport,
            None if network.is_default() && forked.is_none() => HttpTransport::shared()?,
            None => Arc::new(HttpTransport::new(&network)?),
        };
        let transport = match user_agent {
            Some(user_agent) => Arc::new(Introduced { by: transport, user_agent }),
            None => transport,
        };
        let discovery = Arc::new(Discovery::default());
        let dpop = dpop.map(Dpop::into_possession).transpose()?.map(Arc::new);
        let endpoint =
            TokenEndpoint::new(server, request.clone(), client_auth, insecure, transport, discovery)
                .bound(dpop.clone())
                .with_certificate(network.has_identity());
        let family = Arc::new(Family {
            origins,
            token_timeout,
            credentials,
            endpoint,
            dpop,
            refused_when,
            clock,
            policy,
            runtime,
            seed,
            name,
            revocation,
            members: Mutex::default(),
        });
        let source = TokenSource { member: family.member(request), family };
        if let Some(held) = forked.flatten() {
            source.inherit(&held);
        }
        Ok(source)
    }

    pub(crate) fn parsed_base_url(&self) -> Result<Option<Url>> {
        let parse = |url: &String| parse_secure("`base_url`", url, self.config.allow_insecure_http);
        self.config.base_url.as_ref().map(parse).transpose()
    }

    pub(crate) fn parsed_user_agent(&self) -> Result<Option<HeaderValue>> {
        self.config.user_agent.as_deref().map(user_agent::before_ours).transpose()
    }
}

impl Builder<TokenSource> {
    /// Makes the source. Nothing is asked of any server yet.
    ///
    /// # Errors
    /// [`Configuration`](crate::ErrorKind::Configuration), with what is wrong and how to mend it.
    pub fn build(self) -> Result<TokenSource> {
        self.into_source()
    }
}

impl<T> fmt::Debug for Builder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("credentials", &self.config.credentials)
            .field("issuer", &self.config.issuer.as_deref().map(shown_text))
            .field("token_url", &self.config.token_url.as_deref().map(shown_text))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn from(vars: &[(&str, &str)]) -> Builder<TokenSource> {
        Builder::from_variables(
            "EVERTOKEN",
            None,
            vars.iter().map(|(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn the_environment_is_read_whole() {
        let builder = from(&[
            ("EVERTOKEN_APP_ID", "id"),
            ("EVERTOKEN_APP_SECRET", "s3cr3t"),
            ("EVERTOKEN_ISSUER", "https://as.example/"),
            ("EVERTOKEN_AUDIENCE", "https://api.example"),
            ("EVERTOKEN_SCOPE", "read write"),
            ("EVERTOKEN_BASE_URL", "https://api.example/v1/"),
        ]);
        assert!(!format!("{builder:?}").contains("s3cr3t"));
        let source = builder.build().unwrap();
        let request = source.refresher().grant_request();
        assert_eq!(request.audience.as_deref(), Some("https://api.example"));
        assert_eq!(request.scopes, ["read", "write"]);
        assert_eq!(source.family.credentials.get().unwrap().app_id, "id");
        assert!(source.origins().check(&Url::parse("https://api.example/x").unwrap()).is_ok());
    }

    #[test]
    fn a_server_that_is_set_replaces_the_one_of_the_environment() {
        const ID: (&str, &str) = ("EVERTOKEN_APP_ID", "id");
        const SECRET: (&str, &str) = ("EVERTOKEN_APP_SECRET", "s");
        const ISSUER: (&str, &str) = ("EVERTOKEN_ISSUER", "https://env.example/");
        const TOKEN_URL: (&str, &str) = ("EVERTOKEN_TOKEN_URL", "https://env.example/token");
        for server in [&[ISSUER][..], &[TOKEN_URL], &[ISSUER, TOKEN_URL]] {
            let vars = [&[ID, SECRET], server].concat();
            let by_url = from(&vars).token_url("https://as.example/token").build().unwrap();
            assert!(!by_url.family.endpoint.has_issuer());
            let by_issuer = from(&vars).issuer("https://as.example/").build().unwrap();
            assert_eq!(by_issuer.family.endpoint.server().to_string(), "https://as.example/");
            let both = from(&vars).issuer("https://as.example/").token_url("https://as.example/token");
            assert!(both.build().unwrap_err().to_string().contains("both set"));
        }
        let error = from(&[ID, SECRET, ISSUER, TOKEN_URL]).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(
            error.to_string().contains("EVERTOKEN_ISSUER and EVERTOKEN_TOKEN_URL are both set"),
            "{error}"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (vars, named) in [
            (&[][..], "EVERTOKEN_APP_ID is not set"),
            (&[("EVERTOKEN_APP_ID", "id")], "EVERTOKEN_APP_SECRET is not set"),
            (
                &[("EVERTOKEN_APP_ID", "id"), ("EVERTOKEN_APP_SECRET", "s")],
                "EVERTOKEN_ISSUER or EVERTOKEN_TOKEN_URL",
            ),
        ] {
            let error = from(vars).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn the_environment_may_have_the_credentials_in_many_ways() {
        const PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g
-----END PRIVATE KEY-----
";
        let to = ("EVERTOKEN_TOKEN_URL", "https://as.example/token");
        let keyed = from(&[("EVERTOKEN_APP_ID", "id"), to]);
        let key = crate::grant::SigningKey::from_pem(PEM).unwrap();
        keyed.client_auth(crate::grant::PrivateKeyJwt::new(key)).build().unwrap();

        let secrets = [
            ("EVERTOKEN_APP_ID", "id"),
            ("EVERTOKEN_APP_SECRET", "s"),
            ("EVERTOKEN_APP_SECRET_NEXT", "n"),
            to,
        ];
        assert!(from(&secrets).build().unwrap().family.credentials.known().unwrap().next.is_some());

        let path = std::env::temp_dir().join(format!("evertoken-env-{}", std::process::id()));
        let path = path.to_str().unwrap();
        let file = from(&[("EVERTOKEN_CREDENTIALS_FILE", path), to]).build().unwrap();
        assert!(file.family.credentials.known().is_none(), "it is waited for");
        for other in ["APP_ID", "APP_SECRET", "APP_SECRET_NEXT", "API_KEY"] {
            let other = format!("EVERTOKEN_{other}");
            let error = from(&[("EVERTOKEN_CREDENTIALS_FILE", path), (&other, "x"), to]).build().unwrap_err();
            assert!(error.to_string().contains("EVERTOKEN_CREDENTIALS_FILE is set, and"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_told_when_building() {
        let builder = || TokenSource::builder("id", "s").token_url("https://as.example/token");
        for (mistaken, named) in [
            (TokenSource::builder("", "s").token_url("https://as.example/token"), "app id"),
            (TokenSource::builder("id", "s").token_url("http://as.example/token"), "token_url"),
            (TokenSource::builder("id", "s").issuer("as.example"), "issuer"),
            (builder().issuer("https://as.example/"), "`issuer` and `token_url` are both set"),
            (builder().base_url("http://api.example/"), "base_url"),
            (builder().trusted_origin("https://u:p@api.example/"), "trusted_origin"),
            (builder().scope("a\"b"), "scope"),
            (builder().resource(""), "resource"),
            (builder().token_param("client_secret", "x"), "client_secret"),
            (builder().renewal(RenewalPolicy::default().renew_at(2.0)), "renew_at"),
        ] {
            let error = mistaken.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{named}");
            assert!(error.to_string().contains(named), "{error}");
            assert!(!error.is_retryable(), "{error}");
        }
    }
}
