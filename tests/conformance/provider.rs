//! `oidc-provider` in a process of its own, for one test.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Child;
use tokio::sync::Semaphore;

use super::authority::Authority;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance");

/// Long enough for the slowest machine: it only ends a wait that would never end. Now and then node hangs before it has
/// run a line of ours: all its threads wait for a futex, with no CPU time used. Another one then does better.
const START_LIMIT: Duration = Duration::from_secs(30);
const ATTEMPTS: u32 = 4;

/// As many as two cores start in good time: each makes its RSA keys first.
static STARTING: Semaphore = Semaphore::const_new(2);

/// A running server. It ends when this is dropped, also by a panic.
pub(crate) struct Provider {
    ready: Ready,
    http: reqwest::Client,
    _process: Child,
}

/// What the server says of itself when it is ready.
#[derive(Deserialize)]
struct Ready {
    issuer: String,
    resource: String,
    basic: Credential,
    post: Credential,
    mac: Credential,
    bound: Credential,
    keys: Vec<Keyed>,
    initial_access_token: String,
}

/// A client with a private key: PEM, or a JWK.
#[derive(Deserialize, Clone)]
pub(crate) struct Keyed {
    pub(crate) alg: String,
    pub(crate) client_id: String,
    pub(crate) key: String,
}

/// A client that the server knows.
#[derive(Deserialize, Clone)]
pub(crate) struct Credential {
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
}

/// A request that came to the token endpoint.
#[derive(Deserialize, Debug, PartialEq)]
pub(crate) struct TokenRequest {
    /// `basic`, `post`, `assertion` or `certificate`.
    pub(crate) auth: String,
    pub(crate) status: u16,
}

impl Provider {
    /// Installs what the server needs, where that is not done yet, and starts it on a free port.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// The same over https, with a certificate of `authority`, for clients with one: `shop-tls`, whose certificate is of
    /// that authority and for client.test, and `shop-self`, whose certificate is `own`.
    pub(crate) async fn start_tls(authority: &Authority, own: &str) -> Self {
        Self::start_with(Some((authority, own))).await
    }

    async fn start_with(tls: Option<(&Authority, &str)>) -> Self {
        install();
        let mut command = tokio::process::Command::new("node");
        let mut http = reqwest::Client::builder();
        if let Some((authority, own)) = tls {
            let (cert, key) = authority.issue(&["localhost"]);
            let ca = authority.pem();
            http = http.tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes()).unwrap()]);
            command.env("TLS", json!({ "key": key, "cert": cert, "ca": ca, "own": own }).to_string());
        }
        command.arg("server.mjs").current_dir(FOLDER).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let _turn = STARTING.acquire().await.unwrap();
        for _ in 0..ATTEMPTS {
            let mut process =
                command.spawn().expect("node, version 20 or later, must be installed for this test");
            let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
            let Ok(line) = tokio::time::timeout(START_LIMIT, lines.next_line()).await else { continue };
            let Some(line) = line.unwrap() else {
                let mut complaint = String::new();
                process.stderr.take().unwrap().read_to_string(&mut complaint).await.unwrap();
                panic!("the authorization server did not start: {complaint}");
            };
            let ready = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in: {line}"));
            // Whatever it still has to say must find an open pipe, or it dies of it.
            process.stdout = Some(lines.into_inner().into_inner());
            return Self { ready, http: http.build().unwrap(), _process: process };
        }
        panic!("the authorization server did not start {ATTEMPTS} times in {START_LIMIT:?} each");
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.ready.issuer
    }

    /// The resource whose tokens are JWTs that live for 3 s. Without a resource they are opaque and live for 600 s.
    pub(crate) fn resource(&self) -> &str {
        &self.ready.resource
    }

    /// A client registered for `client_secret_basic`; its id and secret need encoding throughout.
    pub(crate) fn basic(&self) -> Credential {
        self.ready.basic.clone()
    }

    /// A client registered for `client_secret_post`, to which only the scope `orders:read` is open.
    pub(crate) fn post(&self) -> Credential {
        self.ready.post.clone()
    }

    /// A client registered for `client_secret_jwt`.
    pub(crate) fn mac(&self) -> Credential {
        self.ready.mac.clone()
    }

    /// A client whose tokens must be bound by DPoP, with a nonce in every proof.
    pub(crate) fn bound(&self) -> Credential {
        self.ready.bound.clone()
    }

    /// With this clients are registered (RFC 7591 3).
    pub(crate) fn initial_access_token(&self) -> &str {
        &self.ready.initial_access_token
    }

    /// The DPoP proofs that came so far.
    pub(crate) async fn proofs(&self) -> Vec<String> {
        let request = self.http.get(format!("{}/control/proofs", self.issuer()));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// A token request of [`bound`](Self::bound) with this proof, made by hand.
    pub(crate) async fn with_proof(&self, proof: &str) -> (u16, Value) {
        let Credential { client_id, client_secret } = self.bound();
        let request = self.http.post(format!("{}/token", self.issuer())).header("dpop", proof);
        let request = request.basic_auth(client_id, Some(client_secret));
        let answer = request.form(&[("grant_type", "client_credentials")]).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// The client registered for `private_key_jwt` with this algorithm only.
    pub(crate) fn keyed(&self, alg: &str) -> Keyed {
        self.ready.keys.iter().find(|keyed| keyed.alg == alg).unwrap().clone()
    }

    /// The client assertions that came so far.
    pub(crate) async fn assertions(&self) -> Vec<String> {
        let request = self.http.get(format!("{}/control/assertions", self.issuer()));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// Sends an assertion once more, as who found it would.
    pub(crate) async fn replay(&self, assertion: &str) -> (u16, Value) {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", assertion),
        ];
        let answer = self.http.post(format!("{}/token", self.issuer())).form(&form).send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    /// Gives a client another secret; the old one is void from now on.
    pub(crate) async fn rotate(&self, client_id: &str, client_secret: &str) {
        let order = json!({ "client_id": client_id, "client_secret": client_secret });
        let request = self.http.post(format!("{}/control/secret", self.issuer())).json(&order);
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// Signs with a new key from now on; the old ones stay published.
    pub(crate) async fn rotate_keys(&self) {
        let request = self.http.post(format!("{}/control/keys", self.issuer()));
        request.send().await.unwrap().error_for_status().unwrap();
    }

    /// The token requests that were answered so far.
    pub(crate) async fn requests(&self) -> Vec<TokenRequest> {
        let request = self.http.get(format!("{}/control/requests", self.issuer()));
        request.send().await.unwrap().json().await.unwrap()
    }

    /// What the server knows of an opaque token (RFC 7662).
    pub(crate) async fn introspect(&self, token: &str) -> Value {
        self.about_token("introspection", token).await.json().await.unwrap()
    }

    /// Ends an opaque token of the first client before its time (RFC 7009).
    pub(crate) async fn revoke(&self, token: &str) {
        self.about_token("revocation", token).await;
    }

    async fn about_token(&self, endpoint: &str, token: &str) -> reqwest::Response {
        let Credential { client_id, client_secret } = &self.ready.basic;
        let form = [("client_id", client_id.as_str()), ("client_secret", client_secret), ("token", token)];
        let request = self.http.post(format!("{}/token/{endpoint}", self.issuer())).form(&form);
        request.send().await.unwrap().error_for_status().unwrap()
    }
}

/// Installs the packages of `package-lock.json`, once for all tests and processes.
#[allow(clippy::incompatible_msrv, reason = "the MSRV is that of the library, not of its tests")]
fn install() {
    let folder = Path::new(FOLDER);
    let lock = File::create(Path::new(env!("CARGO_TARGET_TMPDIR")).join("conformance.lock")).unwrap();
    lock.lock().unwrap();
    let wanted = fs::read(folder.join("package-lock.json")).unwrap();
    let installed = folder.join("node_modules/.installed-package-lock.json");
    if fs::read(&installed).is_ok_and(|found| found == wanted) {
        return;
    }
    let npm = Command::new("npm").args(["ci", "--ignore-scripts"]).current_dir(folder).output();
    let npm = npm.expect("npm must be installed for this test");
    assert!(npm.status.success(), "npm ci failed: {}", String::from_utf8_lossy(&npm.stderr));
    fs::write(installed, wanted).unwrap();
}
