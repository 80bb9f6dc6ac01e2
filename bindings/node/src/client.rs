//! The client: a token source, the word that JavaScript reads, and the mailbox for what takes time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use evertoken::reqwest::Url;
use evertoken::{AccessToken, SecretString, TokenSource};
use evertoken_bindings::Language;
use napi::Env;
use napi::bindgen_prelude::{ArrayBuffer, External, Result};
use napi_derive::napi;

use crate::client_auth::mistake;
use crate::credentials::Credentials;
use crate::errors::thrown;
use crate::mailbox::{Deliver, Letter, Mailbox};
use crate::options::{NativeOptions, Settings};
use crate::word::Word;
use crate::{events, home, status};

/// So many of the last tokens are known by their text, which is what JavaScript says them with.
const REMEMBERED: usize = 8;

/// What JavaScript holds of a client.
pub struct Handle {
    pub shared: Arc<Shared>,
}

/// It lives no longer than the handle, but for the moment in which something else looks at it.
pub struct Shared {
    pub source: TokenSource,
    pub word: Word,
    pub mailbox: Mailbox,
    settings: Arc<Settings>,
    credentials: Arc<Mutex<Credentials>>,
    family: Family,
    tokens: Mutex<VecDeque<AccessToken>>,
    listened_to: AtomicBool,
}

/// The words of all clients with the same credentials.
type Family = Arc<Mutex<Vec<Weak<Shared>>>>;

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.mailbox.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn parsed_url(url: &str) -> Result<Url> {
    // The URL may hold what is secret; the error does not quote it.
    Url::parse(url)
        .map_err(|error| mistake(format!("the URL of the call is not one: {error}; nothing was sent")))
}

impl Shared {
    pub fn is_listened_to(&self) -> bool {
        self.listened_to.load(Ordering::Relaxed)
    }

    fn remember(&self, token: &AccessToken) {
        let mut tokens = lock(&self.tokens);
        if !tokens.contains(token) {
            tokens.truncate(REMEMBERED - 1);
            tokens.push_front(token.clone());
        }
    }

    /// The token with this text, where it is one of the last.
    pub fn known(&self, text: &str) -> Option<AccessToken> {
        lock(&self.tokens).iter().find(|token| token.as_str() == text).cloned()
    }

    /// All of the family ask again when they are next read.
    pub fn bump_all(&self) {
        self.word.bump();
        for relative in lock(&self.family).iter().filter_map(Weak::upgrade) {
            relative.word.bump();
        }
    }

    pub fn letter_with(&self, token: &AccessToken) -> Letter {
        self.remember(token);
        Letter { token: Some(token.as_str().to_owned()), ..Letter::default() }
    }
}

impl Handle {
    fn start(shared: Shared) -> Result<Self> {
        let shared = Arc::new(shared);
        {
            let mut family = lock(&shared.family);
            family.retain(|relative| relative.strong_count() > 0);
            family.push(Arc::downgrade(&shared));
        }
        let watched = events::watch(Arc::downgrade(&shared), shared.source.events());
        home::runtime()?.spawn(watched);
        Ok(Self { shared })
    }

    fn of(
        source: TokenSource,
        settings: Settings,
        credentials: Credentials,
        mailbox: Mailbox,
    ) -> Result<Self> {
        Self::start(Shared {
            source,
            word: Word::default(),
            mailbox,
            settings: Arc::new(settings),
            credentials: Arc::new(Mutex::new(credentials)),
            family: Family::default(),
            tokens: Mutex::default(),
            listened_to: AtomicBool::new(false),
        })
    }
}

/// A client. Nothing is asked of any server.
#[napi]
pub fn open(options: NativeOptions) -> Result<External<Handle>> {
    let _inside = home::runtime()?.enter();
    let mailbox = Mailbox::new();
    let (mut settings, credentials) = options.into_parts(&mailbox)?;
    let builder = settings.builder(&credentials).runtime(home::runtime()?.handle().clone());
    settings.learn(&builder);
    let source = builder.build().map_err(|error| thrown(&error))?;
    Ok(External::new(Handle::of(source, settings, credentials, mailbox)?))
}

/// One that holds this token and asks nobody.
#[napi]
pub fn open_fixed(token: String, base_url: String) -> Result<External<Handle>> {
    let _inside = home::runtime()?.enter();
    let fixed = evertoken::testing::fixed_client(&token, &base_url).map_err(|error| thrown(&error))?;
    let credentials = Credentials::ApiKey(String::new());
    let source = fixed.token_source().clone();
    let handle = Handle::of(source, Settings::fixed(&base_url), credentials, Mailbox::new())?;
    Ok(External::new(handle))
}

/// The same client for another audience and other scopes.
#[napi]
pub fn open_with(
    handle: &External<Handle>,
    audience: String,
    scope: Vec<String>,
) -> Result<External<Handle>> {
    let _inside = home::runtime()?.enter();
    let Shared { source, settings, credentials, family, .. } = &*handle.shared;
    Ok(External::new(Handle::start(Shared {
        source: source.with(audience, &scope).map_err(|error| thrown(&error))?,
        word: Word::default(),
        mailbox: Mailbox::new(),
        settings: settings.clone(),
        credentials: credentials.clone(),
        family: family.clone(),
        tokens: Mutex::default(),
        listened_to: AtomicBool::new(false),
    })?))
}

/// Gives the client's mailbox the function that takes its letters, once.
#[napi]
pub fn connect(handle: &External<Handle>, deliver: Deliver) {
    handle.shared.mailbox.connect(deliver);
}

/// The client's word, to be read with `Atomics.load`; null where it must be asked for with `generation`.
#[napi]
pub fn word(env: &Env, handle: &External<Handle>) -> Result<Option<ArrayBuffer<'static>>> {
    handle.shared.word.shared(env)
}

#[napi]
pub fn generation(handle: &External<Handle>) -> i32 {
    handle.shared.word.load()
}

/// A token, till when the wall clock may say that it is good (in milliseconds since 1970), and the word that it goes with.
#[napi(object, object_from_js = false)]
pub struct Held {
    pub token: String,
    pub until: f64,
    pub generation: i32,
}

/// What can be had without waiting.
#[napi]
pub fn held(handle: &External<Handle>) -> Result<Option<Held>> {
    let _inside = home::runtime()?.enter();
    let shared = &handle.shared;
    loop {
        // Read first: what happens from here on, the word tells.
        let generation = shared.word.load();
        let Some(token) = shared.source.current_token() else { return Ok(None) };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let left = shared.source.status().expires_in;
        // The token that `left` is about, and no newer one.
        if shared.source.current_token().as_ref() == Some(&token)
            && let Some(left) = left
        {
            shared.remember(&token);
            let until = ((now + left).as_secs_f64() * 1e3).floor();
            return Ok(Some(Held { token: token.as_str().to_owned(), until, generation }));
        }
    }
}

/// Waits for a token.
#[napi]
pub fn token(handle: &External<Handle>, id: u32) -> Result<Option<Letter>> {
    let (source, shared) = (handle.shared.source.clone(), Arc::downgrade(&handle.shared));
    handle.shared.mailbox.answer(id, async move {
        Letter::of(source.token().await, |token| match shared.upgrade() {
            Some(shared) => shared.letter_with(&token),
            None => Letter::default(),
        })
    })
}

/// Has a token fetched.
#[napi]
pub fn prefetch(handle: &External<Handle>) -> Result<()> {
    let _inside = home::runtime()?.enter();
    drop(handle.shared.source.prefetch());
    Ok(())
}

#[napi]
pub fn invalidate(handle: &External<Handle>, token: String) -> Result<()> {
    let _inside = home::runtime()?.enter();
    // Any that is not known has long been replaced.
    if let Some(token) = handle.shared.known(&token) {
        handle.shared.source.invalidate(&token);
        handle.shared.word.bump();
    }
    Ok(())
}

#[napi]
pub fn set_credentials(handle: &External<Handle>, app_id: String, app_secret: String) -> Result<()> {
    let _inside = home::runtime()?.enter();
    let shared = &handle.shared;
    let app_secret = SecretString::from(app_secret);
    let outcome = shared.source.set_credentials(app_id.clone(), app_secret.clone());
    shared.bump_all();
    outcome.map_err(|error| thrown(&error))?;
    *lock(&shared.credentials) = Credentials::Given { app_id, app_secret, next_app_secret: None };
    Ok(())
}

#[napi(js_name = "status")]
pub fn status_of(handle: &External<Handle>) -> String {
    status::text(&handle.shared.source.status())
}

/// Whether events are to be sent.
#[napi]
pub fn listen(handle: &External<Handle>, listens: bool) {
    handle.shared.listened_to.store(listens, Ordering::Relaxed);
}

/// The issuer, the token endpoint and the base URL of the client, by whatever they were set.
#[napi(object, object_from_js = false)]
pub struct Addresses {
    pub issuer: Option<String>,
    pub token_url: Option<String>,
    pub base_url: Option<String>,
}

#[napi]
pub fn addresses(handle: &External<Handle>) -> Addresses {
    let [issuer, token_url, base_url] = handle.shared.settings.addresses.clone();
    Addresses { issuer, token_url, base_url }
}

/// The URL that is called for `path`, or what is wrong with it.
#[napi]
pub fn resolve(handle: &External<Handle>, path: String) -> Result<String> {
    let base = handle.shared.settings.base_url.as_ref();
    evertoken::resolve_url(base, &path).map(String::from).map_err(|error| thrown(&error))
}

/// Throws where the token may not go there.
#[napi]
pub fn check_origin(handle: &External<Handle>, url: String) -> Result<()> {
    handle.shared.source.check_origin(&parsed_url(&url)?).map_err(|error| thrown(&error))
}

/// Ends the renewals of the whole family.
#[napi]
pub fn close(handle: &External<Handle>, id: u32) -> Result<Option<Letter>> {
    let shared = &handle.shared;
    let source = shared.source.clone();
    let letter =
        shared.mailbox.answer(id, async move { Letter::of(source.shutdown().await, |()| Letter::default()) });
    lock(&shared.tokens).clear();
    shared.bump_all();
    letter
}

/// Nothing is sent to this client any more.
#[napi]
pub fn release(handle: &External<Handle>) {
    handle.shared.mailbox.close();
}

/// Asks the authorization server once, by the settings of this client.
#[napi]
pub fn check(handle: &External<Handle>, id: u32) -> Result<Option<Letter>> {
    let shared = &handle.shared;
    let builder = shared.settings.builder(&lock(&shared.credentials));
    shared.mailbox.answer(id, async move {
        let diagnosis = builder.check().await;
        let found = Language::Node.spell(&diagnosis.to_string()).into_owned();
        Letter { found: Some(found), well: Some(diagnosis.is_ok()), ..Letter::default() }
    })
}
