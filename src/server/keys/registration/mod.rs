//! Keys by dynamic client registration; where registrations are kept is in `store.rs`.

mod journal;
mod lock;
mod store;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::admin::{CreatedKey, KeyAdmin, KeyInfo, Managed, NewKey};
use super::answer::Answer;
use crate::clock::{Clock, system_time};
use crate::error::{Error, ErrorKind, Result};
use crate::grant::{HttpTransport, Transport};
use crate::origin::{TrustedOrigins, parse_secure, shown};
use crate::secret::{ExposeSecret, SecretString};

pub use store::{Registration, RegistrationFile, RegistrationStore};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A [`KeyAdmin`] for servers with dynamic client registration (RFC 7591) and its management (RFC 7592).
///
/// These have no list of clients, and give out for each an access token by which alone it can be managed: both are kept in
/// a [`RegistrationStore`]. A secret cannot be replaced there, so that [`Keys::reset`](super::Keys::reset) makes another
/// client of the same name and customer and then deletes the old one: the app id changes. A disabled key has no grant types.
///
/// ```no_run
/// # fn run() -> evertoken::Result<()> {
/// use evertoken::server::{Keys, RegisteredKeys, RegistrationFile};
///
/// let admin = RegisteredKeys::new("https://as.example/reg", RegistrationFile::new("keys.json"))?
///     .initial_access_token(std::env::var("INITIAL_ACCESS_TOKEN").unwrap_or_default());
/// let keys = Keys::builder(admin, "acme_live")?.build();
/// # drop(keys); Ok(()) }
/// ```
pub struct RegisteredKeys {
    endpoint: Url,
    origin: TrustedOrigins,
    initial_access_token: Option<SecretString>,
    transport: Arc<dyn Transport>,
    store: Box<dyn RegistrationStore>,
}

/// What is read of a client (RFC 7591 3.2.1).
#[derive(Deserialize)]
struct Client {
    client_id: String,
    client_secret: Option<Zeroizing<String>>,
    registration_access_token: Option<Zeroizing<String>>,
    registration_client_uri: Option<String>,
}

impl RegisteredKeys {
    /// Keys that are registered at this `registration_endpoint`, which is https or on loopback.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration) for a URL that cannot be one.
    pub fn new(registration_endpoint: &str, store: impl RegistrationStore) -> Result<Self> {
        let endpoint = parse_secure("the registration endpoint", registration_endpoint, false)?;
        let mut origin = TrustedOrigins::default();
        origin.add(&endpoint);
        let transport = HttpTransport::shared()?;
        Ok(Self { endpoint, origin, initial_access_token: None, transport, store: Box::new(store) })
    }

    /// The token that the server wants of those who register a client (RFC 7591 3); an empty one is none.
    pub fn initial_access_token(mut self, token: impl Into<SecretString>) -> Self {
        self.initial_access_token = Some(token.into()).filter(|token| !token.expose_secret().is_empty());
        self
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        // It is where the server says, and what goes there is as good as the client's secret.
        self.origin.check(url)?;
        let mut request =
            Request::builder().method(method).uri(url.as_str()).header(header::ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, bearer(token)?);
        }
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let server = shown(url);
        let request = request.body(body).map_err(|error| {
            Error::configuration("the address of a client is not usable")
                .with_server(server.as_str())
                .with_source(error)
        })?;
        let failed = |what: &str| {
            Error::new(ErrorKind::Api, what.to_owned()).retryable(true).with_server(server.as_str())
        };
        let answer = tokio::select! {
            biased;
            answer = self.transport.send(request) => {
                answer.map_err(|error| failed("the registration endpoint did not answer").with_source(error))?
            }
            () = Clock::System.wait(TIMEOUT) => {
                return Err(failed("the registration endpoint did not answer within 10.0 s"));
            }
        };
        let (parts, body) = answer.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body, server })
    }

    /// The same, and nothing but a success.
    async fn asked(
        &self,
        method: Method,
        url: &Url,
        token: Option<&SecretString>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let answer = self.send(method, url, token, body).await?;
        if answer.status.is_success() {
            return Ok(answer);
        }
        let secrets: Vec<&str> = token.iter().map(|token| token.expose_secret()).collect();
        Err(answer.refusal(&secrets))
    }

    async fn registered(&self, app_id: &str) -> Result<Registration> {
        let all = self.store.all().await.map_err(|error| super::said("the store failed", &*error))?;
        let known = all.into_iter().find(|registration| registration.info.app_id == app_id);
        known.ok_or_else(|| Error::new(ErrorKind::Api, "there is no such key").with_status(404))
    }

    async fn put(&self, registration: &Registration) -> Result<()> {
        self.store.put(registration).await.map_err(|error| super::said("the store failed", &*error))
    }

    async fn make(&self, wanted: &NewKey) -> Result<CreatedKey> {
        let mut client = json!({
            "client_name": wanted.name,
            "grant_types": ["client_credentials"],
            "response_types": [],
            "redirect_uris": [],
            "token_endpoint_auth_method": "client_secret_basic",
        });
        if !wanted.scopes.is_empty() {
            client["scope"] = wanted.scopes.join(" ").into();
        }
        let token = self.initial_access_token.as_ref();
        let client: Client = self.asked(Method::POST, &self.endpoint, token, Some(&client)).await?.read()?;
        let (Some(secret), Some(access_token), Some(management_url)) =
            (client.client_secret, client.registration_access_token, client.registration_client_uri)
        else {
            return Err(Error::new(
                ErrorKind::Api,
                "the server gave no client_secret, or no way to manage the client",
            )
            .with_server(shown(&self.endpoint))
            .advice("it must support RFC 7592 beside RFC 7591"));
        };
        let info = KeyInfo {
            customer: wanted.customer.clone(),
            created: Some(system_time(Duration::from_secs(Clock::System.now().wall.as_secs()))),
            ..KeyInfo::new(client.client_id, wanted.name.clone())
        };
        let registration = Registration::new(info.clone(), management_url, access_token.as_str());
        if let Err(error) = self.put(&registration).await {
            let removed = match self.unregister(&registration).await {
                Ok(()) => "it was deleted again".to_owned(),
                Err(error) => format!("and is still there as {:?}: {error}", info.app_id),
            };
            return Err(error.prefixed(format!("the client was made but could not be kept; {removed}")));
        }
        Ok(CreatedKey { info, app_secret: secret.as_str().into() })
    }

    async fn replace(&self, app_id: &str) -> Result<CreatedKey> {
        let old = self.registered(app_id).await?;
        let scopes = match self.configuration(&old).await?.get("scope").and_then(Value::as_str) {
            Some(scope) => scope.split_ascii_whitespace().map(str::to_owned).collect(),
            None => Vec::new(),
        };
        let wanted = NewKey { name: old.info.name.clone(), customer: old.info.customer.clone(), scopes };
        let created = self.make(&wanted).await?;
        // Reading may have changed the token.
        let old = self.registered(app_id).await?;
        if let Err(error) = self.remove(&old).await {
            let what =
                format!("the successor is {:?}, but the old client is still there", created.info.app_id);
            return Err(error.prefixed(what));
        }
        Ok(created)
    }

    /// All that the server says of a client (RFC 7592 2.1).
    async fn configuration(&self, registration: &Registration) -> Result<Map<String, Value>> {
        let url = self.management_url(registration)?;
        let answer = self.asked(Method::GET, &url, Some(&registration.access_token), None).await?;
        self.note(registration, &answer).await?;
        answer.read()
    }

    async fn switch(&self, app_id: &str, enabled: bool) -> Result<()> {
        let registration = self.registered(app_id).await?;
        let mut client = self.configuration(&registration).await?;
        // These may not be in an update (RFC 7592 2.2), and we have no secret to repeat.
        for name in [
            "registration_access_token",
            "registration_client_uri",
            "client_secret_expires_at",
            "client_id_issued_at",
            "client_secret",
        ] {
            client.remove(name);
        }
        let grants: &[&str] = if enabled { &["client_credentials"] } else { &[] };
        client.insert("grant_types".into(), grants.into());
        let mut registration = self.registered(app_id).await?;
        let url = self.management_url(&registration)?;
        let token = registration.access_token.clone();
        let answer = self.asked(Method::PUT, &url, Some(&token), Some(&client.into())).await?;
        registration.info.enabled = enabled;
        self.put(&registration).await?;
        self.note(&registration, &answer).await
    }

    /// Keeps a new access token, where the answer has one: the old one is void (RFC 7592 3).
    async fn note(&self, registration: &Registration, answer: &Answer) -> Result<()> {
        let client: Client = answer.read()?;
        let Some(token) = client.registration_access_token else { return Ok(()) };
        if *token == registration.access_token.expose_secret() {
            return Ok(());
        }
        let management_url =
            client.registration_client_uri.unwrap_or_else(|| registration.management_url.clone());
        self.put(&Registration::new(registration.info.clone(), management_url, token.as_str())).await
    }

    /// Taken away at the server; that it was gone already is as good.
    async fn unregister(&self, registration: &Registration) -> Result<()> {
        let url = self.management_url(registration)?;
        let Err(error) = self.asked(Method::DELETE, &url, Some(&registration.access_token), None).await
        else {
            return Ok(());
        };
        match error.status() {
            Some(404 | 410) => Ok(()),
            // So says a server of a client that it does not know (RFC 7592 2.3), and of a token that is void.
            Some(401) => Err(error.advice(
                "where the server has no such client any more, take it out of the registration store",
            )),
            _ => Err(error),
        }
    }

    async fn remove(&self, registration: &Registration) -> Result<()> {
        self.unregister(registration).await?;
        let app_id = &registration.info.app_id;
        self.store.remove(app_id).await.map_err(|error| super::said("the store failed", &*error))
    }

    fn management_url(&self, registration: &Registration) -> Result<Url> {
        parse_secure("the client's registration_client_uri", &registration.management_url, false)
    }
}

fn bearer(token: &SecretString) -> Result<HeaderValue> {
    let line = Zeroizing::new(format!("Bearer {}", token.expose_secret()));
    let mut header = HeaderValue::try_from(line.as_str()).map_err(|_| {
        Error::configuration("an access token of the registration cannot be sent in a header")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

impl KeyAdmin for RegisteredKeys {
    fn create<'a>(&'a self, wanted: &'a NewKey) -> Managed<'a, CreatedKey> {
        Box::pin(async move { Ok(self.make(wanted).await?) })
    }

    fn list(&self) -> Managed<'_, Vec<KeyInfo>> {
        Box::pin(async move {
            Ok(self.store.all().await?.into_iter().map(|registration| registration.info).collect())
        })
    }

    fn reset<'a>(&'a self, app_id: &'a str) -> Managed<'a, CreatedKey> {
        Box::pin(async move { Ok(self.replace(app_id).await?) })
    }

    fn set_enabled<'a>(&'a self, app_id: &'a str, enabled: bool) -> Managed<'a, ()> {
        Box::pin(async move { Ok(self.switch(app_id, enabled).await?) })
    }

    fn delete<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()> {
        Box::pin(async move {
            let registration = self.registered(app_id).await?;
            Ok(self.remove(&registration).await?)
        })
    }
}

impl fmt::Debug for RegisteredKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredKeys").field("endpoint", &shown(&self.endpoint)).finish_non_exhaustive()
    }
}
