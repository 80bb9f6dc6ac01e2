//! One call's way, for `fetch` and the adapters.

use std::sync::{Arc, Mutex, PoisonError};

use evertoken::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use napi::bindgen_prelude::{External, Result};
use napi_derive::napi;

use crate::client::{Handle, parsed_url};
use crate::client_auth::mistake;
use crate::errors::thrown;
use crate::mailbox::Letter;

/// Away while an answer is looked at.
pub struct Pass(Arc<Mutex<Option<evertoken::Pass>>>);

/// That of a call that was sent with this token; null where it is none.
#[napi]
pub fn pass(handle: &External<Handle>, token: String) -> Option<External<Pass>> {
    let pass = handle.shared.source.pass_sent(&token).ok()?;
    Some(External::new(Pass(Arc::new(Mutex::new(Some(pass))))))
}

/// What authorizes one sending.
#[napi(object, object_from_js = false)]
pub struct Signed {
    pub authorization: String,
    pub dpop: Option<String>,
}

#[napi]
pub fn sign(pass: &External<Pass>, method: String, url: String) -> Result<Signed> {
    let method: Method =
        method.parse().map_err(|_| mistake("the method of the call is not one".to_owned()))?;
    let url = parsed_url(&url)?;
    let pass = pass.0.lock().unwrap_or_else(PoisonError::into_inner);
    let pass = pass.as_ref().ok_or_else(|| mistake("a pass is for one call".to_owned()))?;
    let headers = pass.headers(&method, &url).map_err(|error| thrown(&error))?;
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Ok(Signed { authorization: text("authorization").unwrap_or_default(), dpop: text("dpop") })
}

/// Whether the call is to be sent again, having been answered like this; if so with the token that comes along.
#[napi]
pub fn repeats(
    handle: &External<Handle>,
    id: u32,
    pass: &External<Pass>,
    url: String,
    status: u16,
    headers: Vec<Vec<String>>,
    repeatable: bool,
) -> Result<Option<Letter>> {
    let (url, mut answer) = (parsed_url(&url)?, HeaderMap::new());
    let status = StatusCode::from_u16(status).map_err(|error| mistake(error.to_string()))?;
    for pair in &headers {
        if let [name, value] = pair.as_slice()
            // What is no header says nothing about the token either.
            && let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value))
        {
            answer.append(name, value);
        }
    }
    let slot = pass.0.clone();
    let taken = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
    let mut pass = taken.ok_or_else(|| mistake("a pass is for one call".to_owned()))?;
    let shared = Arc::downgrade(&handle.shared);
    let letter = handle.shared.mailbox.answer(id, async move {
        let repeats = pass.repeats(&url, status, &answer, repeatable).await;
        let letter = match shared.upgrade() {
            Some(shared) if repeats => shared.letter_with(pass.token()),
            _ => Letter::default(),
        };
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(pass);
        Letter { repeats: Some(repeats), ..letter }
    });
    // It may have been withheld.
    handle.shared.word.bump();
    letter
}
