use std::fmt;

use url::Url;
use zeroize::Zeroizing;

use super::client_auth::form_encoded;
use crate::error::{Error, Result};
use crate::padding::{trimmed, trimmed_url};

/// What is asked for: all that makes one token differ from another of the same client, hence also a cache key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct GrantRequest {
    pub(crate) audience: Option<String>,
    /// Resource indicators (RFC 8707).
    pub(crate) resources: Vec<String>,
    pub(crate) scopes: Vec<String>,
    /// Extra parameters, in the order given.
    pub(crate) params: Vec<(String, String)>,
}

/// The values of extra parameters may be secrets.
impl fmt::Debug for GrantRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GrantRequest")
            .field("audience", &self.audience)
            .field("resources", &self.resources)
            .field("scopes", &self.scopes)
            .field("params", &self.params.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

impl GrantRequest {
    /// The same with its scopes one by one and each once, or what is wrong with it.
    pub(crate) fn checked(mut self) -> Result<Self> {
        let mut scopes: Vec<String> = Vec::new();
        for scope in self.scopes.iter().flat_map(|scopes| scopes.split_ascii_whitespace()) {
            if !scope.bytes().all(is_nqchar) {
                return Err(Error::configuration(format!(
                    "`scope` {scope:?} has a character that none may have"
                ))
                .advice("printable ASCII without quotes and backslashes (RFC 6749 3.3)"));
            }
            if !scopes.iter().any(|known| known == scope) {
                scopes.push(scope.to_owned());
            }
        }
        self.scopes = scopes;
        let as_params = self.params.iter_mut().filter(|(name, _)| name == "resource").map(|(_, value)| value);
        for name in self.audience.iter_mut().chain(&mut self.resources).chain(as_params) {
            let url = trimmed_url(name);
            *name = if Url::parse(url).is_ok() { url } else { trimmed(name) }.to_owned();
        }
        if self.audience.as_deref() == Some("") {
            return Err(Error::configuration("`audience` is empty"));
        }
        for resource in &self.resources {
            check_resource("resource", resource)?;
        }
        for (_, value) in self.params.iter().filter(|(name, _)| name == "resource") {
            check_resource("token_param", value)?;
        }
        for (name, _) in &self.params {
            let instead = match name.as_str() {
                "" => "it has no name",
                "grant_type" => "the grant is always client_credentials",
                "client_id" | "client_secret" => "they are the app id and the app secret",
                "client_assertion" | "client_assertion_type" => "set `client_auth` instead",
                "scope" => "set `scope` instead",
                "audience" => "set `audience` instead",
                _ => continue,
            };
            return Err(Error::configuration(format!("`token_param` cannot set {name:?}")).advice(instead));
        }
        Ok(self)
    }

    /// Returns the resources that are no absolute URI (RFC 8707 2). Entra ID v1 and AD FS take the id or the name of an API
    /// there.
    pub(crate) fn odd_resources(&self) -> impl Iterator<Item = &str> {
        let params = self.params.iter().filter(|(name, _)| name == "resource").map(|(_, value)| value);
        self.resources
            .iter()
            .chain(params)
            .map(String::as_str)
            .filter(|resource| Url::parse(resource).is_err())
    }

    /// The scopes as one string (RFC 6749 3.3); `None` where none is asked for.
    pub(crate) fn scope(&self) -> Option<String> {
        (!self.scopes.is_empty()).then(|| self.scopes.join(" "))
    }

    /// The body of the token request (RFC 6749 4.4.2), with what of the client's authentication goes there.
    pub(crate) fn form_body(&self, authentication: &[(&str, &str)]) -> Zeroizing<String> {
        let scope = self.scopes.join(" ");
        let mut fields = vec![("grant_type", "client_credentials")];
        if !scope.is_empty() {
            fields.push(("scope", &scope));
        }
        fields.extend(self.audience.as_deref().map(|audience| ("audience", audience)));
        fields.extend(self.resources.iter().map(|resource| ("resource", resource.as_str())));
        fields.extend(self.params.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        fields.extend(authentication);
        form(&fields)
    }
}

/// Refuses what no server can take for a resource. `option` is what it was given to.
fn check_resource(option: &str, resource: &str) -> Result<()> {
    let problem = if resource.trim().is_empty() {
        "is empty"
    } else if resource.contains(char::is_control) {
        "has a control character"
    } else if Url::parse(resource).is_ok_and(|url| url.fragment().is_some()) {
        "has a fragment (RFC 8707 2)"
    } else {
        return Ok(());
    };
    Err(Error::configuration(match option {
        "resource" => format!("`resource` {resource:?} {problem}"),
        _ => format!("`token_param` \"resource\" {problem}"),
    }))
}

/// `application/x-www-form-urlencoded`.
pub(super) fn form(fields: &[(&str, &str)]) -> Zeroizing<String> {
    // Enough for the worst case, since a buffer that grows leaves unwiped copies behind.
    let capacity = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut body = Zeroizing::new(String::with_capacity(capacity));
    for (name, value) in fields {
        if !body.is_empty() {
            body.push('&');
        }
        body.extend(form_encoded(name));
        body.push('=');
        body.extend(form_encoded(value));
    }
    body
}

/// `NQCHAR = %x21 / %x23-5B / %x5D-7E` (RFC 6749 appendix A).
fn is_nqchar(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ErrorKind;

    fn request(scopes: &[&str], resources: &[&str], params: &[(&str, &str)]) -> GrantRequest {
        GrantRequest {
            audience: None,
            resources: resources.iter().map(|r| (*r).into()).collect(),
            scopes: scopes.iter().map(|s| (*s).into()).collect(),
            params: params.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
        }
    }

    #[test]
    fn the_body_has_all_of_it_in_order() {
        let mut request =
            request(&["read write", "read"], &["https://a.example/x?y=1", "urn:b"], &[("o r", "1+1")]);
        request.audience = Some("https://api".into());
        let request = request.checked().unwrap();
        assert_eq!(
            *request.form_body(&[("client_id", "a&b"), ("client_secret", "s=t")]),
            "grant_type=client_credentials&scope=read%20write&audience=https%3A%2F%2Fapi\
             &resource=https%3A%2F%2Fa.example%2Fx%3Fy%3D1&resource=urn%3Ab&o%20r=1%2B1&client_id=a%26b&client_secret=s%3Dt"
        );
        assert!(!format!("{request:?}").contains("1+1"), "{request:?}");
        assert_eq!(*GrantRequest::default().form_body(&[]), "grant_type=client_credentials");
    }

    #[test]
    fn what_could_not_be_meant_is_refused_when_built() {
        for (bad, said) in [
            (request(&["a\"b"], &[], &[]), "scope"),
            (request(&["a\\b"], &[], &[]), "scope"),
            (request(&["é"], &[], &[]), "scope"),
            (request(&[], &[""], &[]), "`resource` \"\" is empty"),
            (request(&[], &["\n"], &[]), "is empty"),
            (request(&[], &["a\nb"], &[]), "control character"),
            (request(&[], &["urn:api#f"], &[]), "fragment"),
            (request(&[], &[], &[("resource", " ")]), "`token_param` \"resource\" is empty"),
            (request(&[], &[], &[("resource", "h1dden\u{7f}x")]), "control character"),
            (request(&[], &[], &[("resource", "https://a.example/#f")]), "fragment"),
            (request(&[], &["https://a.example/#f"], &[]), "fragment"),
            (request(&[], &[], &[("grant_type", "password")]), "client_credentials"),
            (request(&[], &[], &[("client_id", "x")]), "app id"),
            (request(&[], &[], &[("client_secret", "x")]), "app secret"),
            (request(&[], &[], &[("scope", "x")]), "`scope`"),
            (request(&[], &[], &[("audience", "x")]), "`audience`"),
            (request(&[], &[], &[("", "x")]), "no name"),
            (GrantRequest { audience: Some(String::new()), ..GrantRequest::default() }, "empty"),
        ] {
            let error = bad.checked().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            let error = error.to_string();
            assert!(error.contains(said) && !error.contains("h1dden"), "{error}");
        }
    }

    #[test]
    fn takes_resources_that_are_no_uri() {
        const GUID: &str = "00000003-0000-0ff1-ce00-000000000000";
        for (resource, is_odd) in [
            (GUID, true),
            ("00000003-0000-0ff1-ce00-000000000000/acme.sharepoint.example@tenant", true),
            ("my api", true),
            ("/relative", true),
            ("a#b", true),
            ("api.acme.example/orders", true),
            ("api://acme", false),
            ("urn:ietf:api", false),
            ("https://api.example/v1", false),
        ] {
            let as_option = request(&[], &[resource], &[]).checked().unwrap();
            let as_param = request(&[], &[], &[("resource", resource)]).checked().unwrap();
            for request in [as_option, as_param] {
                let body = request.form_body(&[]);
                let sent: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).skip(1).collect();
                assert_eq!(sent, [("resource".into(), resource.into())]);
                assert_eq!(request.odd_resources().count() == 1, is_odd, "{resource}");
            }
        }
    }

    #[test]
    fn trims_audiences_and_resources() {
        for (given, kept) in [
            ("https://api.example/\r\n", "https://api.example/"),
            (" \"https://api.example/\"", "https://api.example/"),
            ("\u{feff}urn:api\n", "urn:api"),
            ("'my api' \n", "'my api' "),
        ] {
            let audience = GrantRequest { audience: Some(given.to_owned()), ..GrantRequest::default() };
            assert_eq!(audience.checked().unwrap().audience.as_deref(), Some(kept), "{given:?}");
        }
        let resources = vec!["'https://api.example/'\n".to_owned()];
        let resource = GrantRequest { resources, ..GrantRequest::default() }.checked().unwrap();
        assert_eq!(resource.resources, ["https://api.example/"]);
    }

    proptest! {
        #[test]
        fn every_field_survives_the_form(
            audience in proptest::option::of("[a-z](.*[a-z])?"),
            params in proptest::collection::vec(("x.*", any::<String>()), 0..4),
            id in any::<String>(),
            secret in any::<String>(),
        ) {
            let request = GrantRequest { audience: audience.clone(), params: params.clone(), ..GrantRequest::default() };
            let body = request.checked().unwrap().form_body(&[("client_id", &id), ("client_secret", &secret)]);
            let mut expected = vec![("grant_type".to_owned(), "client_credentials".to_owned())];
            expected.extend(audience.map(|audience| ("audience".into(), audience)));
            expected.extend(params);
            expected.extend([("client_id".into(), id), ("client_secret".into(), secret)]);
            let parsed: Vec<_> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
            prop_assert_eq!(parsed, expected);
        }
    }
}
