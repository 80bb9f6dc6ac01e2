use std::collections::HashSet;
use std::time::Duration;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::admin::{CreatedKey, KeyAdmin, KeyInfo, Managed, NewKey};
use super::answer::{Answer, path_segment};
use crate::client::{Client, RequestBuilder};
use crate::clock::{Clock, system_time};
use crate::error::{Error, ErrorKind, Result};
use crate::server::time::{parse_rfc3339, rfc3339};

/// How many clients a page has: the most that Auth0 gives.
const PAGE: usize = 100;
/// The longest value in a client's metadata.
const LONGEST_VALUE: usize = 255;
/// By this we know a client as one of ours: no other is listed, reset or deleted.
const OURS: (&str, &str) = ("issued_by", "evertoken");

/// A [`KeyAdmin`] for Auth0, by its Management API (`/api/v2/`).
///
/// Each key is an application of the type machine-to-machine, with a grant for the API of this audience; its customer and
/// time are in the application's metadata, by which it is known as ours. No other application is listed or changed. A
/// disabled key has no grant types.
///
/// The client is one for the Management API, whose application needs `create:clients`, `read:clients`, `update:clients`,
/// `delete:clients`, `update:client_keys` and `create:client_grants`: [`Keys`](super::Keys) shows one. Nothing that changes
/// something is sent twice, except after a 401.
#[derive(Debug, Clone)]
pub struct Auth0Keys {
    client: Client,
    audience: String,
}

/// What is read of an application.
#[derive(Deserialize)]
struct Application {
    client_id: String,
    #[serde(default)]
    name: String,
    client_secret: Option<Zeroizing<String>>,
    #[serde(default)]
    client_metadata: Map<String, Value>,
    grant_types: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Page {
    clients: Vec<Application>,
    total: usize,
}

impl Auth0Keys {
    /// Keys for the API of this audience.
    pub fn new(client: Client, audience: impl Into<String>) -> Self {
        Self { client, audience: audience.into() }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer> {
        Answer::of(request.send().await?.into_inner()).await
    }

    /// An application that is one of ours.
    async fn ours(&self, app_id: &str) -> Result<Application> {
        let answer = self.send(self.client.get(format!("clients/{}", path_segment(app_id)?))).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(no_such_key());
        }
        let application: Application = answer.read()?;
        if application.client_id != app_id || !application.is_ours() {
            return Err(no_such_key());
        }
        Ok(application)
    }

    async fn make(&self, wanted: &NewKey) -> Result<CreatedKey> {
        let created = system_time(Duration::from_secs(Clock::System.now().wall.as_secs()));
        let mut metadata = json!({ OURS.0: OURS.1, "created": rfc3339(created) });
        if let Some(customer) = &wanted.customer {
            if customer.len() > LONGEST_VALUE {
                return Err(Error::configuration(format!(
                    "the customer's name is longer than the {LONGEST_VALUE} bytes that Auth0 takes"
                )));
            }
            metadata["customer"] = customer.as_str().into();
        }
        let application = self
            .send(self.client.post("clients").json(&json!({
                "name": wanted.name,
                "app_type": "non_interactive",
                "grant_types": ["client_credentials"],
                "token_endpoint_auth_method": "client_secret_basic",
                "oidc_conformant": true,
                "client_metadata": metadata,
            })))
            .await?
            .read::<Application>()?;
        let grant =
            json!({ "client_id": application.client_id, "audience": self.audience, "scope": wanted.scopes });
        let granted = match self.send(self.client.post("client-grants").json(&grant)).await {
            Ok(answer) => answer.check(),
            Err(error) => Err(error),
        };
        if let Err(error) = granted {
            let app_id = &application.client_id;
            let removed = match self.remove(app_id).await {
                Ok(()) => "it was deleted again".to_owned(),
                Err(error) => {
                    format!("and is still there as {app_id:?}, for it could not be deleted: {error}")
                }
            };
            return Err(error.prefixed(format!("the application was made but not its grant; {removed}")));
        }
        application.with_secret()
    }

    async fn pages(&self) -> Result<Vec<KeyInfo>> {
        let mut keys = Vec::new();
        let mut seen = HashSet::new();
        for page in 0.. {
            let query = [
                ("fields", "client_id,name,client_metadata,grant_types"),
                ("include_fields", "true"),
                ("app_type", "non_interactive"),
                ("include_totals", "true"),
                ("per_page", &PAGE.to_string()),
                ("page", &page.to_string()),
            ];
            let page_of: Page = self.send(self.client.get("clients").query(&query)).await?.read()?;
            let (got, total) = (page_of.clients.len(), page_of.total);
            // What is made or deleted meanwhile moves others from page to page.
            let ours = page_of.clients.into_iter().filter(Application::is_ours);
            keys.extend(ours.filter(|one| seen.insert(one.client_id.clone())).map(|one| one.info()));
            if got == 0 || page * PAGE + got >= total {
                break;
            }
        }
        Ok(keys)
    }

    async fn rotate(&self, app_id: &str) -> Result<CreatedKey> {
        self.ours(app_id).await?;
        let path = format!("clients/{}/rotate-secret", path_segment(app_id)?);
        // It wants a body, and none is an empty one.
        self.send(self.client.post(&path).json(&json!({}))).await?.read::<Application>()?.with_secret()
    }

    async fn switch(&self, app_id: &str, enabled: bool) -> Result<()> {
        self.ours(app_id).await?;
        let grants: &[&str] = if enabled { &["client_credentials"] } else { &[] };
        let path = format!("clients/{}", path_segment(app_id)?);
        self.send(self.client.patch(&path).json(&json!({ "grant_types": grants }))).await?.check()
    }

    async fn remove(&self, app_id: &str) -> Result<()> {
        self.send(self.client.delete(format!("clients/{}", path_segment(app_id)?))).await?.check()
    }
}

impl Application {
    fn is_ours(&self) -> bool {
        self.metadata(OURS.0) == Some(OURS.1)
    }

    fn metadata(&self, name: &str) -> Option<&str> {
        self.client_metadata.get(name)?.as_str()
    }

    fn info(&self) -> KeyInfo {
        let grants = |grants: &Vec<String>| grants.iter().any(|grant| grant == "client_credentials");
        KeyInfo {
            customer: self.metadata("customer").map(str::to_owned),
            created: self.metadata("created").and_then(parse_rfc3339),
            enabled: self.grant_types.as_ref().is_some_and(grants),
            ..KeyInfo::new(self.client_id.clone(), self.name.clone())
        }
    }

    fn with_secret(self) -> Result<CreatedKey> {
        let info = self.info();
        match self.client_secret {
            Some(secret) => Ok(CreatedKey { info, app_secret: secret.as_str().into() }),
            None => Err(Error::new(ErrorKind::Api, "Auth0 gave no client_secret")),
        }
    }
}

fn no_such_key() -> Error {
    Error::new(ErrorKind::Api, "there is no such key").with_status(404)
}

impl KeyAdmin for Auth0Keys {
    fn create<'a>(&'a self, wanted: &'a NewKey) -> Managed<'a, CreatedKey> {
        Box::pin(async move { Ok(self.make(wanted).await?) })
    }

    fn list(&self) -> Managed<'_, Vec<KeyInfo>> {
        Box::pin(async move { Ok(self.pages().await?) })
    }

    fn reset<'a>(&'a self, app_id: &'a str) -> Managed<'a, CreatedKey> {
        Box::pin(async move { Ok(self.rotate(app_id).await?) })
    }

    fn set_enabled<'a>(&'a self, app_id: &'a str, enabled: bool) -> Managed<'a, ()> {
        Box::pin(async move { Ok(self.switch(app_id, enabled).await?) })
    }

    fn delete<'a>(&'a self, app_id: &'a str) -> Managed<'a, ()> {
        Box::pin(async move {
            self.ours(app_id).await?;
            Ok(self.remove(app_id).await?)
        })
    }
}
