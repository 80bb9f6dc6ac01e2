use url::{Position, Url};

use crate::error::{Error, ErrorKind, Result};
use crate::padding::trimmed_url;

/// The origins that may see the token (rule: a foreign origin is an error before any I/O, never a call without).
#[derive(Debug, Clone, Default)]
pub(crate) struct TrustedOrigins(Vec<Origin>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
    /// As a URL begins that is of it, in most cases.
    text: String,
}

impl Origin {
    fn is_of(&self, scheme: &str, host: &str, port: Option<u16>) -> bool {
        let same_host = self.host == host || self.host.eq_ignore_ascii_case(host);
        same_host && self.scheme == scheme && self.port == port
    }
}

impl TrustedOrigins {
    /// `url` is one that [`require_secure`] let through.
    pub(crate) fn add(&mut self, url: &Url) {
        let scheme = over_http(url.scheme());
        let origin = Origin {
            scheme: scheme.to_owned(),
            host: url.host_str().unwrap_or_default().to_owned(),
            port: url.port_or_known_default(),
            text: format!("{scheme}{}", &url[Position::AfterScheme..Position::BeforePath]),
        };
        if !self.0.contains(&origin) {
            self.0.push(origin);
        }
    }

    #[cfg(feature = "middleware")]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which of the trusted origins `url` is of; an error that names its origin, unless the token may go there.
    pub(crate) fn check(&self, url: &Url) -> Result<usize> {
        let begins = &url[..Position::BeforePath];
        if let Some(index) = self.0.iter().position(|origin| origin.text == begins) {
            return Ok(index);
        }
        let host = url.host_str().unwrap_or_default();
        self.index_of((url.scheme(), host, url.port_or_known_default()))
    }

    /// Which of the trusted origins this is; an error that names it where it is none.
    pub(crate) fn index_of(&self, (scheme, host, port): (&str, &str, Option<u16>)) -> Result<usize> {
        let http = over_http(scheme);
        if let Some(index) = self.0.iter().position(|origin| origin.is_of(http, host, port)) {
            return Ok(index);
        }
        let shown = match port {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Err(Error::new(ErrorKind::UntrustedOrigin, "the token may not go to this origin; nothing was sent")
            .with_server(shown)
            .advice("allow it by name with `trusted_origin`, or call it with a client of its own"))
    }
}

/// The scheme of the request that opens a connection of this one: a WebSocket begins with a GET (RFC 6455 1.3).
pub(crate) fn over_http(scheme: &str) -> &str {
    match scheme {
        "ws" => "http",
        "wss" => "https",
        other => other,
    }
}

/// Parses an origin that the token may go to: as [`parse_secure`] does, and `ws` and `wss` count as `http` and `https`.
pub(crate) fn parse_origin(what: &str, text: &str, allow_insecure: bool) -> Result<Url> {
    let mut url = parsed(what, text)?;
    let http = over_http(url.scheme()).to_owned();
    // Fails for no scheme that is mapped to.
    let _ = url.set_scheme(&http);
    require_secure(what, &url, allow_insecure)?;
    Ok(url)
}

/// Parses what a user or a server gave as the address called `what`: https, or loopback, or opted out of.
pub(crate) fn parse_secure(what: &str, text: &str, allow_insecure: bool) -> Result<Url> {
    let url = parsed(what, text)?;
    require_secure(what, &url, allow_insecure)?;
    Ok(url)
}

fn parsed(what: &str, text: &str) -> Result<Url> {
    Url::parse(trimmed_url(text))
        .map_err(|error| Error::configuration(format!("{what} is not a URL: {error}")).with_source(error))
}

/// Tokens and secrets go to https, to loopback, or to what was opted out by name.
pub(crate) fn require_secure(what: &str, url: &Url, allow_insecure: bool) -> Result<()> {
    let problem = if url.host_str().is_none_or(str::is_empty) || !matches!(url.scheme(), "http" | "https") {
        "is not an http(s) URL with a host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "holds user information, which would end up in logs"
    } else if url.fragment().is_some() {
        "has a fragment"
    } else if url.scheme() == "http" && !allow_insecure && !is_loopback(url) {
        "is plain http and not loopback: use https (or opt out with `allow_insecure_http`)"
    } else {
        return Ok(());
    };
    Err(Error::configuration(format!("{what} {problem}")).with_server(shown(url)))
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

/// A URL as a DPoP proof names it: without query and fragment, and with the scheme of HTTP (RFC 9449 4.2).
pub(crate) fn htu(url: &Url) -> String {
    format!("{}://{}", over_http(url.scheme()), &url[Position::BeforeHost..Position::AfterPath])
}

/// A URL as errors and logs may show it: no user information, query or fragment.
pub(crate) fn shown(url: &Url) -> String {
    let mut text = format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
    if let Some(port) = url.port() {
        text.push_str(&format!(":{port}"));
    }
    text.push_str(url.path());
    text
}

/// The same for what was given as a URL, and may hold anything until it has been checked.
pub(crate) fn shown_text(text: &str) -> String {
    Url::parse(trimmed_url(text)).map_or_else(|_| "not a URL".to_owned(), |url| shown(&url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn https_loopback_or_opted_out() {
        for good in ["https://as.example/t", "http://localhost:1/t", "http://127.0.0.1/t", "http://[::1]:9/t"]
        {
            assert!(parse_secure("token_url", good, false).is_ok(), "{good}");
        }
        for bad in [
            "http://as.example/t",
            "http://localhost.evil.example/t",
            "ftp://as.example/",
            "data:,x",
            "https://u:p@as.example/",
            "https://as.example/#f",
            "as.example",
        ] {
            let error = parse_secure("token_url", bad, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{bad}");
            assert!(!error.to_string().contains("u:p"), "{error}");
        }
        assert!(parse_secure("token_url", "http://as.example/t", true).is_ok());
    }

    #[test]
    fn counts_websockets_as_http() {
        let mut trusted = TrustedOrigins::default();
        trusted.add(&parse_origin("`trusted_origin`", "wss://api.acme.com/socket", false).unwrap());
        trusted.add(&parse_origin("`trusted_origin`", "ws://127.0.0.1:8080", false).unwrap());
        trusted.add(&url("https://other.acme.com/"));
        for good in [
            "wss://api.acme.com/x",
            "wss://API.acme.com:443/",
            "https://api.acme.com/",
            "ws://127.0.0.1:8080/x?y",
            "http://127.0.0.1:8080/",
            "wss://other.acme.com/",
        ] {
            assert!(trusted.check(&url(good)).is_ok(), "{good}");
        }
        for bad in [
            "ws://api.acme.com/",
            "wss://127.0.0.1:8080/",
            "wss://other.acme.com:8443/",
            "ws://other.acme.com/",
        ] {
            let error = trusted.check(&url(bad)).unwrap_err();
            assert!(error.server().is_some_and(|shown| shown.starts_with("ws")), "{error}");
        }
        for bad in ["ws://api.acme.com/", "wss://", "ftp://api.acme.com/", "wss://u:p@api.acme.com/"] {
            assert!(parse_origin("`trusted_origin`", bad, false).is_err(), "{bad}");
        }
        assert!(parse_origin("`trusted_origin`", "ws://api.acme.com/", true).is_ok());
        assert!(parse_secure("`issuer`", "wss://as.acme.com/", false).is_err());
        assert_eq!(htu(&url("wss://api.acme.com/x?y")), "https://api.acme.com/x");
    }

    #[test]
    fn scheme_host_and_port_make_the_origin() {
        let mut trusted = TrustedOrigins::default();
        trusted.add(&url("https://api.acme.com/v1/"));
        for good in ["https://api.acme.com/", "https://API.acme.com:443/x?y", "https://api.acme.com/v2"] {
            assert!(trusted.check(&url(good)).is_ok(), "{good}");
        }
        for bad in
            ["http://api.acme.com/", "https://api.acme.com:8443/", "https://api.acme.com.evil.example/"]
        {
            let error = trusted.check(&url(bad)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UntrustedOrigin);
            assert!(error.server().is_some());
        }
    }
}
