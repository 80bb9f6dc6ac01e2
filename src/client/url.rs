//! From what a caller wrote to the URL that is called.

use std::fmt;

use url::{Position, Url};

use crate::error::{Error, Result};
use crate::origin::shown;

/// A URL as long as most are: one that fits is put together with one allocation.
const SHORT: usize = 512;

/// The address under which an API's paths lie. Its own path ends in a slash.
#[derive(Debug, Clone)]
pub(crate) struct BaseUrl(Url);

impl BaseUrl {
    pub(crate) fn new(mut url: Url) -> Result<Self> {
        if url.query().is_some() {
            return Err(Error::configuration("`base_url` has a query, which no path can be appended to")
                .with_server(shown(&url)));
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Self(url))
    }

    /// Appends `path`; whatever it is, the result lies on the same origin and under the same path.
    fn join(&self, path: &str) -> Result<Url> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let url = relative(&self.0, path)
            .map_err(|error| refused(path, "does not make a URL").with_source(error))?;
        // What is refused above cannot lead elsewhere; this holds even where that reasoning has a hole.
        if url[..Position::AfterPath].starts_with(self.0.as_str()) {
            Ok(url)
        } else {
            Err(refused(path, "leads out of the base URL"))
        }
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The URL for `path`: below `base`, or `path` itself where it is an absolute http(s) URL, whose origin is yet to be
/// checked.
pub(crate) fn resolve(base: Option<&BaseUrl>, path: &str) -> Result<Url> {
    if is_plain(path) { below(base, path) } else { resolve_odd(base, path) }
}

/// Most paths are: nothing in them could lead elsewhere.
fn is_plain(path: &str) -> bool {
    !path.starts_with("//") && path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-_~".contains(&b))
}

fn below(base: Option<&BaseUrl>, path: &str) -> Result<Url> {
    base.ok_or_else(|| {
        refused(path, "is relative, but there is no `base_url`")
            .advice("set `base_url`, or give an absolute URL")
    })?
    .join(path)
}

fn resolve_odd(base: Option<&BaseUrl>, path: &str) -> Result<Url> {
    if path.contains(char::is_control) {
        return Err(refused(path, "holds a control character"));
    }
    let scheme =
        path.split_once("://").map(|(scheme, _)| scheme).filter(|scheme| !scheme.contains(['/', '?']));
    if let Some(scheme) = scheme {
        // The rest may hold a password.
        let refused = |problem| refused(&format!("{scheme}://…"), problem);
        if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(refused("is neither a path nor an http(s) URL"));
        }
        let url = Url::parse(path).map_err(|error| refused("is not a URL").with_source(error))?;
        return match url.username().is_empty() && url.password().is_none() {
            true => Ok(url),
            false => Err(refused("holds user information; set a header instead")),
        };
    }
    let only_path = path.split(['?', '#']).next().unwrap_or_default();
    if only_path.starts_with("//") {
        return Err(refused(path, "begins with `//`, which would name another host"));
    }
    if only_path.contains('\\') {
        return Err(refused(path, "holds a backslash: write it as %5C"));
    }
    if only_path.split('/').any(is_parent) {
        return Err(refused(path, "holds a `..` segment"));
    }
    below(base, path)
}

/// The URL that a client with this base calls for `path`. For bindings only.
#[doc(hidden)]
pub fn resolve_url(base: Option<&Url>, path: &str) -> Result<Url> {
    let base = base.cloned().map(BaseUrl::new).transpose()?;
    resolve(base.as_ref(), path)
}

/// `..` in each of its forms, which URL parsers take for the same (WHATWG URL, double-dot path segment).
fn is_parent(segment: &str) -> bool {
    ["..", ".%2e", "%2e.", "%2e%2e"].iter().any(|form| segment.eq_ignore_ascii_case(form))
}

/// The query is left out, since it may hold secrets.
fn refused(path: &str, problem: &str) -> Error {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Error::configuration(format!("the path {path:?} {problem}; nothing was sent"))
}

/// Parses `path` alone, where joining it to the text of `base` would have its host parsed at every call. The `./` keeps a
/// colon in it from ending a scheme, and the spaces, which parsers strip (WHATWG URL), make the parser's buffer as long as the
/// URL will be.
fn relative(base: &Url, path: &str) -> Result<Url, url::ParseError> {
    let mut buffer = [b' '; SHORT];
    let (dot, length) = ("./".len(), base.as_str().len() + path.len());
    if let Some(short) = buffer.get_mut(..dot + length) {
        short[..dot].copy_from_slice(b"./");
        short[dot..dot + path.len()].copy_from_slice(path.as_bytes());
        if let Ok(text) = str::from_utf8(short) {
            return base.join(text);
        }
    }
    base.join(&["./", path].concat())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn base(text: &str) -> BaseUrl {
        BaseUrl::new(Url::parse(text).unwrap()).unwrap()
    }

    fn resolved(path: &str) -> Result<String> {
        resolve(Some(&base("https://api.acme.com/v1/")), path).map(String::from)
    }

    #[test]
    fn paths_are_appended() {
        let long = "x".repeat(2 * SHORT);
        for (path, url) in [
            ("orders", "/v1/orders"),
            ("/orders", "/v1/orders"),
            ("", "/v1/"),
            ("/", "/v1/"),
            ("orders/7?page=2&q=a/../b", "/v1/orders/7?page=2&q=a/../b"),
            ("?q=http://x.example/", "/v1/?q=http://x.example/"),
            ("orders:cancel", "/v1/orders:cancel"),
            ("o/ä b", "/v1/o/%C3%A4%20b"),
            ("a..b/...", "/v1/a..b/..."),
            ("./orders", "/v1/orders"),
            (&long, &format!("/v1/{long}")),
        ] {
            assert_eq!(resolved(path).unwrap(), format!("https://api.acme.com{url}"), "{path}");
            let without_slash = resolve(Some(&base("https://api.acme.com/v1")), path).unwrap();
            assert_eq!(without_slash.as_str(), format!("https://api.acme.com{url}"), "{path}");
        }
        let at_the_root = resolve(Some(&base("https://api.acme.com")), "/orders").unwrap();
        assert_eq!(at_the_root.as_str(), "https://api.acme.com/orders");
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for path in [
            "//evil.example/x",
            "///evil.example/x",
            "..",
            "../admin",
            "orders/..",
            "orders/../../admin",
            "orders/%2e%2E/admin",
            "orders/.%2e",
            "orders/%2E.?x",
            "..?x",
            "\\\\evil.example",
            "orders\\..\\x",
            "orders\n",
            "\torders",
            ".\t./admin",
            "orders?a\r\nb",
            "or\u{7f}ders",
            "ftp://api.acme.com/x",
            "https://user:pw@api.acme.com/",
            "ftp://user:pw@api.acme.com/",
            "https://user:pw@bad host/",
            "https:///",
        ] {
            let error = resolved(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration, "{path}");
            assert!(
                error.to_string().contains("nothing was sent") && !error.to_string().contains("pw"),
                "{error}"
            );
        }
    }

    #[test]
    fn absolute_urls_stand_for_themselves() {
        for url in ["https://api.acme.com/v2/x?y", "http://other.example/"] {
            assert_eq!(resolved(url).unwrap(), url);
            assert_eq!(resolve(None, url).unwrap().as_str(), url);
        }
        assert_eq!(resolved("HTTPS://API.acme.com").unwrap(), "https://api.acme.com/");
        let error = resolve(None, "orders?key=s3cr3t").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(error.to_string().contains("base_url") && !error.to_string().contains("s3cr3t"), "{error}");
        assert!(BaseUrl::new(Url::parse("https://api.acme.com/?x").unwrap()).is_err());
    }

    proptest! {
        #[test]
        fn no_relative_path_leaves_the_base(path in "[a-z./\\\\%2eE@:?#\t ]{0,24}") {
            if let Ok(url) = resolved(&path) {
                prop_assert!(url.starts_with("https://api.acme.com/v1/"), "{path:?} {url}");
            }
        }
    }
}
