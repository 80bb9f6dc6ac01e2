//! `Retry-After` (RFC 9110 10.2.3) and the headers of quotas, with every status that has them.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{Response, StatusCode};

use super::answer::{NOW, answered, parse};
use super::said;

const TOKEN: &str = r#"{"access_token":"t0ken","token_type":"Bearer","expires_in":3600}"#;

pub fn check(data: &[u8]) {
    let headers = parse(data).headers().clone();
    for status in [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let mut answer =
            Response::new(Bytes::from_static(if status.is_success() { TOKEN } else { "" }.as_bytes()));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers.clone();
        let outcome = answered(answer);
        let next = outcome.status.next_attempt.expect("a next attempt is planned");
        let Err(error) = outcome.token else {
            assert!(status.is_success());
            assert!(next < Duration::from_secs(3600), "renewed within the token's life, not in {next:?}");
            if let Some(quota) = outcome.status.quota {
                assert!(quota.resets_at.is_none_or(|at| at >= UNIX_EPOCH), "{quota:?}");
                let _ = quota.is_low();
            }
            continue;
        };
        assert!(!status.is_success());
        said::check(&error, &[]);
        assert!(next <= said::LONGEST_WAIT * 2, "{next:?}");
        // Whole seconds, as the book has them: not sooner, up to the cap.
        let only = headers.get("retry-after").and_then(|value| value.to_str().ok());
        if let Some(seconds) = only.and_then(|value| value.trim().parse::<u32>().ok()) {
            let asked = Duration::from_secs(seconds.into()).min(said::LONGEST_WAIT);
            assert!(next >= asked, "{next:?} where {asked:?} was asked for");
        }
        // A date counts from the server's own.
        if headers.get("retry-after").is_some_and(|value| value == "Fri, 13 Feb 2009 23:32:30 GMT")
            && !headers.contains_key("date")
        {
            assert!(next >= Duration::from_secs(60), "{next:?} at {NOW}");
        }
    }
}
