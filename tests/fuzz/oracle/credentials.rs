//! Files of credentials: any text, and three parts (one a line) written as JSON and as lines.

use evertoken::{AppCredentials, ErrorKind};
use serde_json::json;

use super::said;

pub fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    look(text);
    let mut parts = text.splitn(3, '\n');
    let [Some(id), Some(secret), Some(next)] = [(); 3].map(|()| parts.next()) else { return };
    if id.is_empty() || text.len() > 8000 {
        return;
    }
    let right = AppCredentials::new(id, secret).next_secret(next);
    for name in ["next_app_secret", "app_secret_next"] {
        let whole = json!({ "app_id": id, "app_secret": secret, name: next, "other": [1] }).to_string();
        assert_eq!(whole.parse::<AppCredentials>().unwrap(), right);
        // Cut short, it is no credential and says nothing.
        let cut = data.len() % (whole.len() - 1);
        if let Some(torn) = whole.get(..cut) {
            assert!(look(torn).is_none(), "{torn:?}");
        }
    }
    let on_a_line = |part: &str| !part.contains(['\n', '\r']);
    if [id, secret, next].into_iter().all(on_a_line) {
        let lines = format!(
            "APP_ID='{id}'\n# more\nexport APP_SECRET=\"{secret}\"\r\nEVERTOKEN_APP_SECRET_NEXT='{next}'\n"
        );
        assert_eq!(lines.parse::<AppCredentials>().unwrap(), right, "{lines:?}");
    }
}

/// What it is read as; an error repeats no long word of it, and `Debug` shows no more than the id.
fn look(text: &str) -> Option<AppCredentials> {
    match text.parse::<AppCredentials>() {
        Ok(read) => {
            let shown = format!("{read:?}");
            assert!(shown.ends_with(", .. }"), "{shown}");
            Some(read)
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Configuration);
            said::check(&error, &said::long_words(text));
            None
        }
    }
}
