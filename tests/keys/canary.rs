//! A registration endpoint that repeats what it was sent, and says what it should not; all that is put out is searched.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};

use evertoken::server::{
    Keys, NewKey, RegisteredKeys, RegistrationFile, RegistrationStore, Usage, UsageFile,
};
use evertoken::{ApiKey, Error};
use serde_json::{Value, json};

use crate::registration::Endpoint;

const CANARY: &str = "C4n4ryInTheCoalMine";
const SECRET: &str = r#"p w:%+/"C4n4ryInTheCoalMine'\&="#;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Output {
    fn show(&self, what: impl Debug) {
        self.put(&format!("{what:?}\n{what:#?}\n"));
    }

    fn error(&self, error: &Error) {
        self.show(error);
        self.show((error.description(), error.oauth_error(), error.server()));
        let mut cause: Option<&dyn std::error::Error> = Some(error);
        while let Some(error) = cause {
            self.put(&format!("{error}\n{error:?}\n"));
            cause = error.source();
        }
    }

    fn put(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

impl io::Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_put_out() {
    let output = Output::default();
    let lines = output.clone();
    // What the other tests put out meanwhile has no canary in it.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || lines.clone())
        .init();

    let endpoint = Endpoint::start().await;
    let (url, next) = (&endpoint.url, |status, body| endpoint.next(status, body));
    let path = std::env::temp_dir().join(format!("evertoken-keys-canary-{}.json", std::process::id()));
    let file = RegistrationFile::new(&path);
    let admin = RegisteredKeys::new(url, file.clone()).unwrap().initial_access_token(SECRET);
    output.show((&admin, &file));
    let keys = Keys::builder(admin, "acme_test").unwrap();
    output.show(&keys);
    let keys = keys.build();
    output.show(&keys);
    output
        .error(&RegisteredKeys::new(&format!("https://app:{CANARY}@as.example/"), file.clone()).unwrap_err());

    // What was sent, in each place where it may be said again.
    for status in [400, 401, 403, 429, 500] {
        next(status, json!({ "error": SECRET, "error_description": format!("bad {SECRET}\nfrom you") }));
        output.error(&keys.issue(NewKey::named("a")).await.unwrap_err());
        next(status, json!({ "message": format!("bad {SECRET}"), "errorCode": SECRET }));
        output.error(&keys.issue(NewKey::named("a")).await.unwrap_err());
    }
    // What was given, where it cannot be read, or not be used.
    for body in [
        json!({ "client_id": [CANARY], "client_secret": SECRET }),
        json!({ "client_id": "a", "client_secret": { "secret": SECRET } }),
        json!({ "client_id": "a", "client_secret": SECRET, "registration_access_token": 7 }),
        json!({ "client_id": "a", "client_secret": SECRET }),
        json!([SECRET]),
    ] {
        next(201, body);
        output.error(&keys.issue(NewKey::named("a")).await.unwrap_err());
    }
    let client = endpoint.client("app-7", SECRET);
    next(201, client.clone());
    let issued = keys.issue(NewKey::named("night").customer("Initech")).await.unwrap();
    assert_eq!(ApiKey::parse(issued.key.expose()).unwrap().app_id(), "app-7");
    output.show((&issued, &issued.key, issued.key.app_secret(), keys.list().await.unwrap()));
    output.show(file.all().await.unwrap());
    next(403, json!({ "error": "no", "error_description": format!("bad {SECRET}") }));
    output.error(&keys.disable("app-7").await.unwrap_err());
    next(200, client.clone());
    next(400, json!({ "error": "invalid_client_metadata", "error_description": format!("in {SECRET}") }));
    output.error(&keys.disable("app-7").await.unwrap_err());
    next(204, Value::Null);
    keys.delete("app-7").await.unwrap();
    std::fs::write(&path, format!(r#"{{"app-7":{{"name":7,"registration_access_token":"{CANARY}"}}}}"#))
        .unwrap();
    output.error(&keys.list().await.unwrap_err());
    std::fs::remove_file(&path).unwrap();

    let usage = Usage::builder(UsageFile::new("/nowhere/usage.jsonl"));
    output.show(&usage);
    let usage = usage.patience(std::time::Duration::from_millis(10)).start().unwrap();
    usage.call(Some("app-7"), evertoken::server::CallOutcome::Accepted, None);
    output.error(&usage.shutdown().await.unwrap_err());
    output.show(&usage);

    let output = output.0.lock().unwrap();
    assert!(!output.contains(CANARY), "{output}");
    for word in [
        "key issued",
        "key deleted",
        "[redacted]",
        "Keys {",
        "IssuedKey {",
        "the usage sink failed",
        "registration",
    ] {
        assert!(output.contains(word), "{word:?} is nowhere in the output: {output}");
    }
}
