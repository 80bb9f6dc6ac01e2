//! Why a connection did not come about: what the HTTP stack's chain of errors tells, and what can be done about it. Where
//! connections go is decided in `network` and `proxies`.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError};

use crate::error::Error;

/// Whether this process has found no certificate authorities on its machine.
static NO_STORE: AtomicBool = AtomicBool::new(false);

/// Notes that the machine has no certificate authorities, so that what fails for that says so. Returns whether it is news.
pub(crate) fn note_missing_store() -> bool {
    !NO_STORE.swap(true, Ordering::Relaxed)
}

/// Returns whether the other side ended the stream where more was expected.
pub(crate) fn is_end_of_stream(error: &(dyn StdError + 'static)) -> bool {
    let mut errors = chain(error).into_iter().filter_map(|link| link.downcast_ref::<io::Error>());
    errors.any(|error| error.kind() == io::ErrorKind::UnexpectedEof)
}

/// Why a connection did not come about.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    what: String,
    advice: Option<&'static str>,
}

impl Cause {
    /// Reads the cause from an error of the HTTP stack. Returns None if that tells nothing that is known.
    pub(crate) fn of(error: &(dyn StdError + 'static)) -> Option<Self> {
        let chain = chain(error);
        let texts: Vec<String> = chain.iter().map(|link| link.to_string()).collect();
        let has = |text: &str| texts.iter().any(|link| link.contains(text));
        if has("tunnel error: proxy authorization required") || has("server does not support user/pass") {
            return Some(Self::new(
                "the proxy wants a user and a password",
                "put them into the proxy's URL, percent-encoded: `http://user:password@host:port`",
            ));
        }
        if has("credentials not accepted") {
            return Some(Self::new("the proxy refused user and password", "check them in the proxy's URL"));
        }
        if has("failed to create underlying connection") {
            let why =
                Self::below(&chain, &texts).map_or_else(String::new, |cause| format!(": {}", cause.what));
            let what = format!("the proxy cannot be reached{why}");
            return Some(Self::new(
                what,
                "check the proxy's URL, and whether the server needs one: `NO_PROXY`",
            ));
        }
        if has("tunnel error") || has("error connecting to socks proxy") {
            // Its own words, which have no more than a status or a reason.
            let why = texts.last().filter(|last| has("socks") && !last.contains("socks"));
            let why =
                why.map_or_else(String::new, |why| format!(": {}", why.trim_start_matches("SOCKS error: ")));
            return Some(Self::new(
                format!("the proxy did not connect to the server{why}"),
                "check whether the proxy lets this machine through to the server's host and port",
            ));
        }
        Self::below(&chain, &texts)
    }

    /// Reads from an error of a connection that was made why the server ended it, if it said so by TLS.
    pub(crate) fn of_alert(error: &(dyn StdError + 'static)) -> Option<Self> {
        let chain = chain(error);
        let error = chain.iter().find_map(|link| link.downcast_ref::<TlsError>())?;
        matches!(error, TlsError::AlertReceived(_)).then(|| Self::of_tls(error))
    }

    /// The same without regard to proxies.
    fn below(chain: &[&(dyn StdError + 'static)], texts: &[String]) -> Option<Self> {
        if let Some(error) = chain.iter().find_map(|link| link.downcast_ref::<TlsError>()) {
            return Some(Self::of_tls(error));
        }
        if texts.iter().any(|text| text == "invalid dns name") {
            return Some(Self::new("the host is not a name that can exist", "check it for typos"));
        }
        let is_lookup = |text: &String| {
            text == "dns error"
                || text.starts_with("failed to lookup address")
                || text == "error resolving for socks proxy"
        };
        if texts.iter().any(is_lookup) {
            let is_down = texts.iter().any(|text| text.contains("emporary failure"));
            return Some(if is_down {
                Self::new("the name cannot be looked up now", "look at this machine's DNS")
            } else {
                Self::new("the name does not resolve", "check it for typos, and this machine's DNS")
            });
        }
        let mut kinds = chain.iter().filter_map(|link| link.downcast_ref::<io::Error>()).map(io::Error::kind);
        let during_tls = texts.iter().any(|text| text.contains("tls handshake"));
        kinds.next_back().and_then(|kind| Self::of_io(kind, during_tls)).or_else(|| {
            let timed_out = texts.iter().any(|text| text.contains("timed out"));
            timed_out.then(Self::timed_out)
        })
    }

    fn of_io(kind: io::ErrorKind, during_tls: bool) -> Option<Self> {
        use io::ErrorKind as Kind;
        Some(match kind {
            Kind::ConnectionRefused => {
                Self::new("the connection was refused", "check host and port, and whether the server runs")
            }
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::AddrNotAvailable | Kind::NetworkDown => {
                Self::new("there is no route to the server", "check this machine's network and its firewall")
            }
            Kind::PermissionDenied => {
                Self::new("this machine does not allow the connection", "check its firewall and sandbox")
            }
            Kind::TimedOut => Self::timed_out(),
            Kind::ConnectionReset | Kind::ConnectionAborted | Kind::BrokenPipe | Kind::UnexpectedEof => {
                let what = if during_tls {
                    "the connection was closed during the TLS handshake"
                } else {
                    "the connection was closed before it was made"
                };
                Self::new(what, "check the port, and firewalls and proxies on the way")
            }
            _ => return None,
        })
    }

    fn timed_out() -> Self {
        Self::new(
            "there was no answer in the time for connecting",
            "check host, port and firewalls; `connect_timeout` sets the time",
        )
    }

    fn of_tls(error: &TlsError) -> Self {
        match error {
            TlsError::InvalidCertificate(error) => Self::of_certificate(error),
            TlsError::AlertReceived(AlertDescription::ProtocolVersion) | TlsError::PeerIncompatible(_) => {
                Self::new(
                    "the server speaks neither TLS 1.2 nor 1.3 as this client does",
                    "have the server offer TLS 1.2 or 1.3 with a modern cipher suite",
                )
            }
            TlsError::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::CertificateUnknown
                | AlertDescription::AccessDenied,
            ) => Self::new(
                "the server refused the client's certificate, or wants one",
                "give one that it knows, with `client_certificate`",
            ),
            TlsError::AlertReceived(AlertDescription::UnrecognisedName) => Self::new(
                "the server has no certificate for this name",
                "check the host for typos, or have the server set up for it",
            ),
            TlsError::AlertReceived(alert) => Self::new(
                format!("the server ended the TLS handshake ({alert:?})"),
                "look at the server's log, and whether it offers TLS 1.2 or 1.3 with a modern cipher suite",
            ),
            TlsError::InvalidMessage(_) => Self::new(
                "the server does not speak TLS",
                "check the port: it may be the one for plain http, or a proxy's",
            ),
            other => Self { what: format!("TLS failed: {other}"), advice: None },
        }
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::UnknownIssuer if NO_STORE.load(Ordering::Relaxed) => Self::new(
                "there are no certificate authorities on this machine by which the server's certificate could be checked",
                "install the package `ca-certificates`, or set `SSL_CERT_FILE` or `root_certificate`",
            ),
            CertificateError::UnknownIssuer => Self::new(
                "the server's certificate is of an unknown issuer",
                "give the issuer's certificate with `root_certificate` or, on Linux, `SSL_CERT_FILE`",
            ),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let since = match error {
                    CertificateError::ExpiredContext { not_after, .. } => dated(" on ", *not_after),
                    _ => String::new(),
                };
                Self::new(
                    format!("the server's certificate expired{since}"),
                    "have the server's certificate renewed, and look at this machine's clock",
                )
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                let until = match error {
                    CertificateError::NotValidYetContext { not_before, .. } => dated(" before ", *not_before),
                    _ => " yet".to_owned(),
                };
                Self::new(
                    format!("the server's certificate is not valid{until}"),
                    "look at this machine's clock",
                )
            }
            CertificateError::NotValidForName => Self::misnamed(String::new()),
            CertificateError::NotValidForNameContext { expected, presented } => {
                // As in `DnsName("auth.example")`.
                let name = |shown: &String| shown.split('"').nth(1).unwrap_or(shown).to_owned();
                let names: Vec<_> = presented.iter().map(name).collect();
                let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
                Self::misnamed(format!(": it is for {names}, not for {}", expected.to_str()))
            }
            CertificateError::Revoked => {
                Self::new("the server's certificate was revoked", "have the server's certificate replaced")
            }
            other => Self::new(
                format!("the server's certificate cannot be used: {other}"),
                "have the server's certificate replaced, or give its issuer's with `root_certificate`",
            ),
        }
    }

    fn misnamed(names: String) -> Self {
        Self::new(
            format!("the server's certificate is for another name{names}"),
            "use a host that the certificate names, or have the name added",
        )
    }

    fn new(what: impl Into<String>, advice: &'static str) -> Self {
        Self { what: what.into(), advice: Some(advice) }
    }

    /// Adds it to an error that says what failed.
    pub(crate) fn explain(&self, error: Error) -> Error {
        let error = error.because(&self.what);
        match self.advice {
            Some(advice) => error.advice(advice),
            None => error,
        }
    }
}

/// The cause alone.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The error and what led to it. An `io::Error` does not count what it wraps among its sources.
fn chain<'a>(error: &'a (dyn StdError + 'static)) -> Vec<&'a (dyn StdError + 'static)> {
    let mut found: Vec<&'a (dyn StdError + 'static)> = Vec::new();
    let mut next = Some(error);
    while let Some(link) = next {
        found.push(link);
        let wrapped = link.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = wrapped.map(|wrapped| wrapped as &(dyn StdError + 'static)).or_else(|| link.source());
    }
    found
}

fn dated(before: &str, time: UnixTime) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
    time.map_or_else(String::new, |time| format!("{before}{}", httpdate::fmt_http_date(time)))
}
