//! Which proxy a request goes through, by a builder's `proxy` or by the environment.
//!
//! Plain http to loopback never goes through one: it is allowed without an opt-out only because nothing leaves the
//! machine. How connections are made otherwise is in `network`.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::Uri;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{ClientBuilder, Proxy};
use url::Url;

use crate::error::{Error, Result};
use crate::origin;

/// The variables that name proxies. The first that exists holds, even if it is empty.
const ALL: [&str; 2] = ["ALL_PROXY", "all_proxy"];
const HTTP: [&str; 2] = ["HTTP_PROXY", "http_proxy"];
const HTTPS: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];
const NONE: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Web servers set it for CGI programs, for which a caller's `Proxy` header becomes `HTTP_PROXY`.
const CGI: &str = "REQUEST_METHOD";

/// Where requests may go through a proxy.
pub(crate) enum Proxies {
    /// Nowhere.
    None,
    /// Everywhere.
    Given(Url),
    /// By the rules of the environment and, on macOS and Windows, of the system.
    System(Box<System>),
}

pub(crate) struct System {
    matcher: Matcher,
    /// The variables that name the proxies for plain http and for https.
    http: Option<&'static str>,
    https: Option<&'static str>,
}

/// What a proxy's URL may begin with.
const SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];
/// That of SOCKS (RFC 1928 3).
const SOCKS_PORT: u16 = 1080;

impl Proxies {
    /// Reads the environment and the system's settings, as the HTTP client would.
    ///
    /// # Errors
    ///
    /// If a variable names no proxy that can be used. The error holds the variable's name and never its value.
    pub(crate) fn from_system() -> Result<Self> {
        Self::read(|name| std::env::var(name).ok())
    }

    fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        if get(CGI).is_some() {
            return Ok(Self::None);
        }
        let first = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, get(name)?)));
        let none = first(NONE).map(|(_, value)| value).unwrap_or_default();
        if none.split(',').any(|part| part.trim() == "*") {
            return Ok(Self::None);
        }
        let mut corrected = false;
        let mut value = |names| -> Result<(String, Option<&'static str>)> {
            let Some((name, value)) = first(names) else { return Ok((String::new(), None)) };
            let usable = usable(name, &value)?;
            corrected |= usable != value;
            let name = Some(name).filter(|_| !usable.is_empty());
            Ok((usable, name))
        };
        let [(all, all_name), (http, http_name), (https, https_name)] =
            [value(ALL)?, value(HTTP)?, value(HTTPS)?];
        let (http_name, https_name) = (http_name.or(all_name), https_name.or(all_name));
        let matcher = if corrected {
            Matcher::builder().all(all).http(http).https(https).no(none).build()
        } else if http_name.is_some() || https_name.is_some() || cfg!(any(target_os = "macos", windows)) {
            Matcher::from_system()
        } else {
            return Ok(Self::None);
        };
        Ok(Self::System(System { matcher, http: http_name, https: https_name }.into()))
    }

    /// Returns the proxy for requests to this server, with its user and password.
    pub(crate) fn of(&self, server: &Url) -> Option<Url> {
        if server.scheme() == "http" && origin::is_loopback(server) {
            return None;
        }
        match self {
            Self::None => None,
            Self::Given(proxy) => Some(proxy.clone()),
            Self::System(system) => with_user(&system.matcher.intercept(&server.as_str().parse().ok()?)?),
        }
    }

    /// Describes the proxy between us and this server: its origin, which is all that a message may show of it, and what names
    /// it. Returns None if there is no proxy.
    pub(crate) fn shown_for(&self, server: &Uri) -> Option<String> {
        let server = Url::parse(&server.to_string()).ok()?;
        let proxy = self.of(&server)?;
        let port = proxy.port().map_or_else(String::new, |port| format!(":{port}"));
        let by = match self {
            Self::None => return None,
            Self::Given(_) => "`proxy`".to_owned(),
            Self::System(system) => {
                let name = if server.scheme() == "http" { system.http } else { system.https };
                name.map_or_else(|| "the system's settings".to_owned(), |name| format!("`{name}`"))
            }
        };
        Some(format!("{}://{}{port} (by {by})", proxy.scheme(), proxy.host_str().unwrap_or_default()))
    }
}

/// Has a client use these proxies and no others.
pub(crate) fn apply(proxies: &Arc<Proxies>, client: ClientBuilder) -> ClientBuilder {
    if let Proxies::None = **proxies {
        return client.no_proxy();
    }
    let proxies = proxies.clone();
    client.proxy(Proxy::custom(move |server| proxies.of(server)))
}

/// Shows no more than which kind it is: the others hold passwords.
impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Given(_) => "Given",
            Self::System(_) => "System",
        })
    }
}

/// Returns a variable's value as the matcher reads it: the last `@` ends the password, as browsers and curl have it.
fn usable(name: &str, value: &str) -> Result<String> {
    let value = value.trim();
    if value.is_empty() {
        return Ok(String::new());
    }
    let (scheme, rest) = value.split_once("://").map_or((None, value), |(scheme, rest)| (Some(scheme), rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => format!("{}@{host}", user.replace('@', "%40")),
        None => authority.to_owned(),
    };
    let scheme = scheme.map_or_else(String::new, |scheme| format!("{}://", scheme.to_ascii_lowercase()));
    let usable = format!("{scheme}{authority}{tail}");
    let read = Matcher::builder().all(usable.clone()).build();
    let proxy = read.intercept(&Uri::from_static("https://as.example/"));
    // An `@` behind the host belongs to a password with a `/`, `?` or `#`: what stands before it is no host.
    match proxy
        .as_ref()
        .and_then(with_user)
        .filter(|url| SCHEMES.contains(&url.scheme()) && !tail.contains('@'))
    {
        Some(_) => Ok(usable),
        None => Err(Error::configuration(format!("the environment variable `{name}` names no usable proxy"))
            .advice(
                "give it `http://host:port`, `https://host:port` or `socks5h://host:port`, and percent-encode user and password",
            )),
    }
}

/// Returns a proxy as the HTTP client takes it.
///
/// # Errors
///
/// If it has no host, or a scheme that is none of a proxy's.
pub(crate) fn complete(mut proxy: Url) -> Result<Url> {
    if !SCHEMES.contains(&proxy.scheme()) || proxy.host_str().is_none_or(str::is_empty) {
        return Err(Error::configuration("`proxy` is no URL of a proxy")
            .advice("give it `http://host:port`, `https://host:port` or `socks5h://host:port`"));
    }
    if proxy.scheme().starts_with("socks") && proxy.port().is_none() {
        let _ = proxy.set_port(Some(SOCKS_PORT));
    }
    Ok(proxy)
}

/// The matcher keeps user and password apart from the URL, and the HTTP client wants them in it.
fn with_user(proxy: &Intercept) -> Option<Url> {
    let mut url = complete(Url::parse(&proxy.uri().to_string()).ok()?).ok()?;
    let basic = proxy.basic_auth().and_then(|basic| {
        let encoded = basic.to_str().ok()?.strip_prefix("Basic ")?;
        String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()
    });
    let basic = basic.as_deref().and_then(|basic| basic.split_once(':'));
    if let Some((user, password)) = basic.or_else(|| proxy.raw_auth()) {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        url.set_username(&encoded(user)).ok()?;
        url.set_password(Some(&encoded(password))).ok()?;
    }
    Some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(settings: &[(&str, &str)], server: &str) -> Option<String> {
        let get = |name: &str| {
            settings.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        // Corrected, so that the settings of this test are asked and not the environment.
        let proxies = Proxies::read(|name| get(name).map(|value| format!("{value} "))).unwrap();
        proxies.of(&Url::parse(server).unwrap()).map(|url| url.to_string())
    }

    #[test]
    fn bypasses_proxy_for_plain_http_on_loopback() {
        let given = Proxies::Given(Url::parse("http://proxy:3128").unwrap());
        for server in ["http://127.0.0.1:80/", "http://127.9.9.9/", "http://[::1]:8080/", "http://localhost/"]
        {
            assert_eq!(by(&[("ALL_PROXY", "http://proxy:3128")], server), None, "{server}");
            assert_eq!(by(&[("http_proxy", "http://proxy:3128")], server), None, "{server}");
            assert_eq!(given.of(&Url::parse(server).unwrap()), None, "{server}");
        }
        for server in
            ["https://127.0.0.1/", "https://localhost/", "http://10.0.0.1/", "http://localhost.test/"]
        {
            let proxy = by(&[("ALL_PROXY", "http://proxy:3128")], server);
            assert_eq!(proxy.as_deref(), Some("http://proxy:3128/"), "{server}");
            assert!(given.of(&Url::parse(server).unwrap()).is_some(), "{server}");
        }
    }

    #[test]
    fn keeps_password_with_at_sign_and_percent_sign() {
        for (set, seen) in [
            ("http://user:p@ss@proxy:3128", "http://user:p%40ss@proxy:3128/"),
            ("user:p@ss@w@proxy:3128", "http://user:p%40ss%40w@proxy:3128/"),
            ("http://user:p%40ss@proxy:3128", "http://user:p%40ss@proxy:3128/"),
            ("http://user:%2541@proxy:3128/", "http://user:%2541@proxy:3128/"),
            ("http://user@proxy:3128", "http://user@proxy:3128/"),
            ("proxy:3128", "http://proxy:3128/"),
            ("socks5h://user:p@ss@proxy:1080", "socks5h://user:p%40ss@proxy:1080"),
            ("SOCKS5://proxy", "socks5://proxy:1080"),
            ("socks4a://proxy:9", "socks4a://proxy:9"),
        ] {
            let proxy = by(&[("HTTPS_PROXY", set)], "https://as.example/");
            assert_eq!(
                proxy.as_deref().map(|url| url.trim_end_matches('/')),
                Some(seen.trim_end_matches('/')),
                "{set}"
            );
        }
    }

    #[test]
    fn star_in_no_proxy_excludes_names_and_addresses() {
        for none in ["*", "a.example, *", " * ,b"] {
            let settings = [("ALL_PROXY", "http://proxy:3128"), ("no_proxy", none)];
            assert_eq!(by(&settings, "https://as.example/"), None, "{none}");
            assert_eq!(by(&settings, "https://10.0.0.1/"), None, "{none}");
        }
        let settings = [("ALL_PROXY", "http://proxy:3128"), ("NO_PROXY", "10.0.0.0/8, *.example")];
        assert_eq!(by(&settings, "https://10.0.0.1/"), None);
        assert!(by(&settings, "https://11.0.0.1/").is_some());
    }

    #[test]
    fn names_variable_without_its_value() {
        for (name, value) in [
            ("HTTPS_PROXY", "http://user:can/ary@proxy"),
            ("all_proxy", "ftp://canary"),
            ("http_proxy", "a b"),
        ] {
            let error = Proxies::read(|asked| (asked == name).then(|| value.to_owned())).err().unwrap();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&format!("`{name}`")), "{shown}");
            assert!(!shown.contains("canary") && !shown.contains("can/ary"), "{shown}");
        }
        let cgi = Proxies::read(|name| Some(if name == CGI { "GET" } else { "ftp://x" }.to_owned()));
        assert!(matches!(cgi.unwrap(), Proxies::None));
    }
}
