//! The authorization server in a box, for `lib/testing.ts`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use evertoken::testing::{AuthServer, Fault};
use napi::bindgen_prelude::{Error, Result};
use napi_derive::napi;
use serde_json::json;

use crate::home;

fn ms(ms: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(ms / 1e3)
        .map_err(|_| Error::from_reason("a time must be a number of milliseconds, 0 or more"))
}

/// What goes wrong, and what belongs to it.
#[napi(object)]
pub struct NativeFault {
    pub kind: String,
    pub status: Option<u16>,
    pub headers: Option<Vec<Vec<String>>>,
    pub body: Option<String>,
    pub after_ms: Option<f64>,
    pub error: Option<String>,
    pub description: Option<String>,
}

impl NativeFault {
    fn into_fault(self) -> Result<Fault> {
        let after = ms(self.after_ms.unwrap_or_default())?;
        let status = self.status.unwrap_or(503);
        let pair = |pair: Vec<String>| <[String; 2]>::try_from(pair).ok().map(|[name, value]| (name, value));
        Ok(match self.kind.as_str() {
            "status" => Fault::Status {
                status,
                headers: self.headers.unwrap_or_default().into_iter().filter_map(pair).collect(),
                body: self.body.unwrap_or_default(),
            },
            "retryAfter" => Fault::RetryAfterSeconds(status, after.as_secs()),
            "retryAfterDate" => Fault::RetryAfterDate(status, after),
            "hang" => Fault::Hang,
            "reset" => Fault::Reset,
            "close" => Fault::Close,
            "tornBody" => Fault::TornBody,
            "endlessBody" => Fault::EndlessBody,
            "garbage" => Fault::Garbage,
            "latency" => Fault::Latency(after),
            "oauth" => Fault::Oauth {
                status,
                error: self.error.unwrap_or_else(|| "invalid_client".to_owned()),
                description: self.description.unwrap_or_default(),
            },
            other => return Err(Error::from_reason(format!("the fault {other:?} is not known"))),
        })
    }
}

/// It lives on the runtime of the renewals.
#[napi(js_name = "NativeAuthServer")]
pub struct BoxedServer(Mutex<Option<Arc<AuthServer>>>);

impl BoxedServer {
    fn server(&self) -> Result<Arc<AuthServer>> {
        let server = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        server.clone().ok_or_else(|| Error::from_reason("the server was stopped"))
    }
}

#[napi]
impl BoxedServer {
    #[napi(constructor)]
    pub fn new(lifetime_ms: Option<f64>, audience: Option<String>) -> Result<Self> {
        let mut builder = AuthServer::builder();
        if let Some(lifetime) = lifetime_ms {
            builder = builder.lifetime(ms(lifetime)?);
        }
        if let Some(audience) = &audience {
            builder = builder.audience(audience);
        }
        let server = home::runtime()?.block_on(builder.start());
        let server = server.map_err(|error| Error::from_reason(error.to_string()))?;
        Ok(Self(Mutex::new(Some(server.into()))))
    }

    #[napi]
    pub fn issuer(&self) -> Result<String> {
        Ok(self.server()?.issuer())
    }

    #[napi]
    pub fn token_url(&self) -> Result<String> {
        Ok(self.server()?.token_url())
    }

    #[napi]
    pub fn revocation_url(&self) -> Result<String> {
        Ok(self.server()?.revocation_url())
    }

    #[napi]
    pub fn api_url(&self) -> Result<String> {
        Ok(self.server()?.api_url())
    }

    #[napi]
    pub fn audience(&self) -> Result<String> {
        Ok(self.server()?.audience())
    }

    /// All that is counted, in JSON.
    #[napi]
    pub fn counts(&self) -> Result<String> {
        let server = self.server()?;
        Ok(json!({
            "tokenRequests": server.token_requests(),
            "discoveryRequests": server.discovery_requests(),
            "revocations": server.revocations(),
            "maxInFlight": server.max_in_flight(),
            "apiCalls": server.api_calls(),
            "apiRefused": server.api_refused(),
        })
        .to_string())
    }

    /// The requests that came, in JSON.
    #[napi]
    pub fn log(&self) -> Result<String> {
        let entries = self.server()?.log().into_iter().map(|entry| {
            json!({
                "atMs": entry.at.as_secs_f64() * 1e3,
                "what": entry.what,
                "status": entry.status,
                "clientId": entry.client_id,
                "clientAuth": entry.client_auth,
                "userAgent": entry.user_agent,
            })
        });
        Ok(entries.collect::<serde_json::Value>().to_string())
    }

    #[napi]
    pub fn issued_tokens(&self) -> Result<Vec<String>> {
        Ok(self.server()?.issued_tokens())
    }

    #[napi]
    pub fn accepts(&self, token: String) -> Result<bool> {
        Ok(self.server()?.accepts(&token))
    }

    #[napi]
    pub fn register(&self, app_id: String, app_secret: String) -> Result<()> {
        self.server()?.register(&app_id, &app_secret);
        Ok(())
    }

    #[napi]
    pub fn add_secret(&self, app_id: String, app_secret: String) -> Result<()> {
        self.server()?.add_secret(&app_id, &app_secret);
        Ok(())
    }

    #[napi]
    pub fn revoke(&self, token: Option<String>) -> Result<()> {
        match token {
            Some(token) => self.server()?.revoke(&token),
            None => self.server()?.revoke_all(),
        }
        Ok(())
    }

    #[napi]
    pub fn set_lifetime(&self, lifetime_ms: f64) -> Result<()> {
        self.server()?.set_lifetime(ms(lifetime_ms)?);
        Ok(())
    }

    #[napi]
    pub fn set_latency(&self, latency_ms: f64, at_api: bool) -> Result<()> {
        let (server, latency) = (self.server()?, ms(latency_ms)?);
        if at_api {
            server.set_api_latency(latency)
        } else {
            server.set_latency(latency)
        }
        Ok(())
    }

    #[napi]
    pub fn set_quota(&self, limit: u32, period_ms: f64) -> Result<()> {
        self.server()?.set_quota(limit.into(), ms(period_ms)?);
        Ok(())
    }

    #[napi]
    pub fn set_nonce(&self, nonce: Option<String>, at_api: bool) -> Result<()> {
        let server = self.server()?;
        if at_api {
            server.set_api_nonce(nonce.as_deref())
        } else {
            server.set_token_nonce(nonce.as_deref())
        }
        Ok(())
    }

    #[napi]
    pub fn answer_with(&self, json: String) -> Result<()> {
        let json = serde_json::from_str(&json).map_err(|error| Error::from_reason(error.to_string()))?;
        self.server()?.answer_with(json);
        Ok(())
    }

    #[napi]
    pub fn fail(&self, fault: NativeFault, at: String, always: bool) -> Result<()> {
        let (server, fault) = (self.server()?, fault.into_fault()?);
        match (at.as_str(), always) {
            ("token", false) => server.fail_next(fault),
            ("token", true) => server.fail_always(fault),
            ("api", false) => server.fail_next_api(fault),
            ("revocation", false) => server.fail_next_revocation(fault),
            _ => return Err(Error::from_reason("`always` is for the token endpoint")),
        }
        Ok(())
    }

    #[napi]
    pub fn heal(&self) -> Result<()> {
        self.server()?.heal();
        Ok(())
    }

    #[napi]
    pub fn reset_counters(&self) -> Result<()> {
        self.server()?.reset_counters();
        Ok(())
    }

    #[napi]
    pub fn outage(&self) -> Result<()> {
        let _inside = home::runtime()?.enter();
        self.server()?.outage();
        Ok(())
    }

    #[napi]
    pub fn recover(&self) -> Result<()> {
        let server = self.server()?;
        let recovered = home::runtime()?.block_on(async move { server.recover().await });
        recovered.map_err(|error| Error::from_reason(error.to_string()))
    }

    #[napi]
    pub fn stop(&self) -> Result<()> {
        let _inside = home::runtime()?.enter();
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
        Ok(())
    }
}
