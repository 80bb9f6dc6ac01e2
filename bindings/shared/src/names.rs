//! What the crate calls its options and methods, and what the callers of the bindings write in their place. This is the only
//! table of that kind; `language.rs` applies it.

/// One option or method, as each language spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    /// The word between backticks in the crate's messages.
    pub rust: &'static str,
    /// What a caller writes in Python.
    pub python: &'static str,
    /// What a caller writes in JavaScript, where times are milliseconds.
    pub node: &'static str,
}

const fn name(rust: &'static str, python: &'static str, node: &'static str) -> Name {
    Name { rust, python, node }
}

/// Every option and method that a message of the crate may name to a caller of a binding. A test looks for the names in the
/// crate's source, and for their spellings in that of the bindings.
pub const NAMES: &[Name] = &[
    // The server.
    name("issuer", "issuer", "issuer"),
    name("token_url", "token_url", "tokenUrl"),
    name("revocation_url", "revocation_url", "revocationUrl"),
    name("revoke_on_shutdown", "revoke_on_shutdown", "revokeOnShutdown"),
    // What is asked for.
    name("audience", "audience", "audience"),
    name("resource", "resource", "resource"),
    name("scope", "scope", "scope"),
    name("token_param", "token_params", "tokenParams"),
    // Who asks.
    name("client_auth", "client_auth", "clientAuth"),
    name(
        "ClientAuth::ClientSecretBasic",
        "client_auth=\"client_secret_basic\"",
        "clientAuth: 'client_secret_basic'",
    ),
    name(
        "ClientAuth::ClientSecretBasicRaw",
        "client_auth=\"client_secret_basic_raw\"",
        "clientAuth: 'client_secret_basic_raw'",
    ),
    name(
        "ClientAuth::ClientSecretPost",
        "client_auth=\"client_secret_post\"",
        "clientAuth: 'client_secret_post'",
    ),
    name(
        "ClientAuth::ClientSecretJwt",
        "client_auth=\"client_secret_jwt\"",
        "clientAuth: 'client_secret_jwt'",
    ),
    name("PrivateKeyJwt", "PrivateKeyJwt", "{ method: 'private_key_jwt', key }"),
    name("with_key_id", "key_id", "clientAuth.keyId"),
    name("with_algorithm", "algorithm", "clientAuth.algorithm"),
    name("dpop", "dpop", "dpop"),
    name("Dpop::with_key", "Dpop", "dpop.key"),
    name("next_secret", "next_app_secret", "nextAppSecret"),
    name("CredentialSource::file", "credentials_file", "credentialsFile"),
    name("CredentialSource::files", "app_id_file", "appIdFile"),
    name("CredentialSource::directory", "credentials_directory", "credentialsDirectory"),
    name("next_secret_file", "next_app_secret_file", "nextAppSecretFile"),
    name("CredentialSource::provider", "credentials", "credentials"),
    name("CredentialSource::readable_by_others", "file_readable_by_others", "fileReadableByOthers"),
    name("from_env", "Client.from_env", "Client.fromEnv"),
    name("builder_from", "Client.from_api_key", "Client.fromApiKey"),
    name("set_credentials", "set_credentials", "setCredentials"),
    // Where the token may go.
    name("base_url", "base_url", "baseUrl"),
    name("trusted_origin", "trusted_origins", "trustedOrigins"),
    name("allow_insecure_http", "allow_insecure_http", "allowInsecureHttp"),
    // How.
    name("renewal", "renewal", "renewal"),
    name("renew_at", "renew_at", "renewal.renewAt"),
    name("jitter", "jitter", "renewal.jitter"),
    name("leeway", "leeway", "renewal.leewayMs"),
    name("backoff_base", "backoff_base", "renewal.backoffBaseMs"),
    name("backoff_cap", "backoff_cap", "renewal.backoffCapMs"),
    name("request_timeout", "request_timeout", "renewal.requestTimeoutMs"),
    name("stop_after_unused", "stop_after_unused", "renewal.stopAfterUnused"),
    name("token_timeout", "token_timeout", "tokenTimeoutMs"),
    name("connect_timeout", "connect_timeout", "connectTimeoutMs"),
    name("user_agent", "user_agent", "userAgent"),
    name("proxy", "proxy", "proxy"),
    name("root_certificate", "ca", "ca"),
    name("client_certificate", "cert", "cert"),
    // Methods.
    name("token", "token", "token"),
    name("current_token", "current_token", "currentToken"),
    name("authorization", "authorization", "authorization"),
    name("headers(method, url)", "headers(method, url)", "headers(method, url)"),
    name("prefetch", "prefetch", "prefetch"),
    name("invalidate", "invalidate", "invalidate"),
    name("status", "status", "status"),
    name("events", "events", "events"),
    name("shutdown", "close", "close"),
];
