//! A registration endpoint that answers as it is told, for what real ones do not do on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use axum::http::StatusCode;
use axum::{Json, Router};
use evertoken::server::{Keys, NewKey, RegisteredKeys, RegistrationFile, RegistrationStore};
use serde_json::{Value, json};

pub struct Endpoint {
    pub url: String,
    answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
}

impl Endpoint {
    pub async fn start() -> Self {
        let answers: Arc<Mutex<VecDeque<(u16, Value)>>> = Arc::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/reg", listener.local_addr().unwrap());
        let given = answers.clone();
        let app = Router::new().fallback(async move || {
            let (status, body) = given.lock().unwrap().pop_front().unwrap_or((500, Value::Null));
            (StatusCode::from_u16(status).unwrap(), Json(body))
        });
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, answers }
    }

    pub fn next(&self, status: u16, body: Value) {
        self.answers.lock().unwrap().push_back((status, body));
    }

    /// What it says of a new client.
    pub fn client(&self, app_id: &str, secret: &str) -> Value {
        json!({
            "client_id": app_id, "client_secret": secret, "registration_access_token": secret,
            "registration_client_uri": format!("{}/{app_id}", self.url),
        })
    }
}

/// The answer to a first try may have been lost.
#[tokio::test]
async fn a_client_that_the_server_does_not_know_any_more_can_be_deleted() {
    let endpoint = Endpoint::start().await;
    let path = std::env::temp_dir().join(format!("evertoken-keys-gone-{}.json", std::process::id()));
    let file = RegistrationFile::new(&path);
    let admin = RegisteredKeys::new(&endpoint.url, file.clone()).unwrap();
    let keys = Keys::builder(admin, "acme_test").unwrap().build();
    endpoint.next(201, endpoint.client("app-7", "secret"));
    keys.issue(NewKey::named("night")).await.unwrap();

    endpoint.next(503, Value::Null);
    assert!(keys.delete("app-7").await.unwrap_err().is_retryable());
    // It may be gone, or the access token void: nothing is lost that somebody may still need.
    endpoint.next(401, json!({ "error": "invalid_token" }));
    let error = keys.delete("app-7").await.unwrap_err();
    assert!(error.to_string().contains("take it out of the registration store"), "{error}");
    assert_eq!(file.all().await.unwrap().len(), 1);

    endpoint.next(404, Value::Null);
    keys.delete("app-7").await.unwrap();
    assert!(file.all().await.unwrap().is_empty());
    std::fs::remove_file(&path).unwrap();
}
