//! How a credential may be sent if `client_auth` is not set: the ways that come into question, and what is known of a server by
//! what has worked there. When which of them is tried is decided by the renewal's attempt.
//!
//! Whether Basic is decoded (RFC 6749 2.3.1) is a property of the server; whether it wants the secret in the body is one of the
//! client's registration. Both are learned from what works only: a wrong secret says nothing of how it was sent.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use url::Url;

use super::client_auth::{ClientAuth, raw_differs};
use super::discovery::Metadata;
use crate::clock::{Clock, Moment};
use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::origin;

/// For how long after it last worked a form of Basic is the only one that is tried with the secrets of many clients. Later both
/// are tried again: the server may have changed.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);

/// A way to send an app secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Basic, form-encoded first.
    Encoded,
    /// Basic as it is.
    Raw,
    /// In the form body.
    Post,
}

impl From<Way> for ClientAuth {
    fn from(way: Way) -> Self {
        match way {
            Way::Encoded => ClientAuth::ClientSecretBasic,
            Way::Raw => ClientAuth::ClientSecretBasicRaw,
            Way::Post => ClientAuth::ClientSecretPost,
        }
    }
}

/// The token endpoint, and the ways in which one credential may be sent to it.
pub(crate) struct Ways {
    pub(super) token_endpoint: Url,
    pub(super) metadata: Option<Arc<Metadata>>,
    /// What is sent first.
    pub(super) first: ClientAuth,
    /// What else comes into question, the likelier first.
    pub(super) others: Vec<ClientAuth>,
    /// The first has worked for this very credential: if it is refused now, that is not because of how it was sent.
    pub(super) is_proven: bool,
    /// The server announces no methods.
    pub(super) is_unannounced: bool,
}

impl Ways {
    /// Takes the way that a later check begins with, in its turn.
    pub(crate) fn other(&self, turn: u32) -> Option<&ClientAuth> {
        let turn = usize::try_from(turn).unwrap_or_default();
        self.others.get(turn.checked_rem(self.others.len())?)
    }

    pub(crate) fn first(&self) -> &ClientAuth {
        &self.first
    }

    /// Takes the next way that may be right after this refusal. If the server looked for the client in the body, that is the
    /// body alone, unless the refusal may be about the client as well.
    pub(super) fn next_after(&mut self, refusal: &Error) -> Option<ClientAuth> {
        let is_post = |auth: &ClientAuth| matches!(auth, ClientAuth::ClientSecretPost);
        let post = self.others.iter().position(is_post).filter(|_| refusal.wants_body());
        match post {
            Some(index) => Some(self.others.remove(index)),
            None if self.others.is_empty() || !super::may_be_about_client(refusal) => None,
            None => Some(self.others.remove(0)),
        }
    }
}

/// What has worked at a server, for all that is asked of it.
#[derive(Debug, Default)]
pub(super) struct Learned(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// When each last worked: both forms of Basic with a credential for which they differ, and Basic with one for which they
    /// are the same.
    encoded: Option<Moment>,
    raw: Option<Moment>,
    either: Option<Moment>,
    post: Option<Moment>,
    /// What has worked for the credential of this generation.
    proven: Option<(u64, Way)>,
}

impl State {
    fn of(&self, way: Way) -> Option<&Moment> {
        match way {
            Way::Encoded => self.encoded.as_ref(),
            Way::Raw => self.raw.as_ref(),
            Way::Post => self.post.as_ref(),
        }
    }
}

impl Learned {
    pub(super) fn worked(&self, auth: &ClientAuth, credentials: &Credentials, now: Moment) {
        let differs = raw_differs(credentials);
        let mut state = self.lock();
        let (way, known) = match auth {
            ClientAuth::ClientSecretBasic if !differs => (Way::Encoded, &mut state.either),
            ClientAuth::ClientSecretBasic => (Way::Encoded, &mut state.encoded),
            ClientAuth::ClientSecretBasicRaw => (Way::Raw, &mut state.raw),
            ClientAuth::ClientSecretPost => (Way::Post, &mut state.post),
            _ => return,
        };
        *known = Some(now);
        state.proven = Some((credentials.generation, way));
    }

    /// Returns the ways for a credential at a server that announces these methods, and whether the first has worked for it.
    ///
    /// A credential `of_many`, each of which may be made up, is sent by Basic alone, and only in the form that has worked at this
    /// server lately, as seen from this moment, if one has: so a wrong secret costs one request.
    fn ways(&self, credentials: &Credentials, may_post: bool, of_many: Option<Moment>) -> (Vec<Way>, bool) {
        let state = self.lock();
        let differs = raw_differs(credentials);
        let mut ways = vec![Way::Encoded];
        ways.extend(differs.then_some(Way::Raw));
        ways.extend(may_post.then_some(Way::Post));
        if let Some(now) = of_many {
            let is_known = |way: &Way| state.of(*way).is_some_and(|worked| now.since(worked) < KNOWN_FOR);
            ways.retain(|way| *way != Way::Post);
            if ways.iter().any(is_known) {
                ways.retain(is_known);
            }
        }
        let proven =
            state.proven.filter(|(generation, _)| of_many.is_none() && *generation == credentials.generation);
        let proven = proven.map(|(_, way)| way).filter(|way| ways.contains(way));
        let at = |worked: Option<Moment>| worked.map(|worked| worked.monotonic);
        let basic = at(state.encoded).max(at(state.raw)).max(at(state.either));
        let likeliest = match () {
            () if at(state.post) > basic => Way::Post,
            () if at(state.raw) > at(state.encoded) => Way::Raw,
            () => Way::Encoded,
        };
        let first = proven.unwrap_or(likeliest);
        if let Some(index) = ways.iter().position(|way| *way == first) {
            ways[..=index].rotate_right(1);
        }
        (ways, proven.is_some())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl super::TokenEndpoint {
    /// Finds the token endpoint, and how a credential may be sent there. With `many`, it is one of very many, each of which may
    /// be made up.
    pub(crate) async fn ways(&self, clock: &Clock, credentials: &Credentials, many: bool) -> Result<Ways> {
        let (token_endpoint, metadata) = self.find(clock, credentials).await?;
        let (first, others, is_proven) =
            self.methods(&token_endpoint, metadata.as_deref(), credentials, many.then(|| clock.now()))?;
        let is_unannounced = metadata.as_ref().is_none_or(|metadata| metadata.auth_methods.is_empty());
        Ok(Ways { token_endpoint, metadata, first, others, is_proven, is_unannounced })
    }

    /// What is sent first, what else comes into question, and whether the first has worked for this credential. `of_many` is
    /// the time, for one of very many.
    pub(super) fn methods(
        &self,
        url: &Url,
        metadata: Option<&Metadata>,
        credentials: &Credentials,
        of_many: Option<Moment>,
    ) -> Result<(ClientAuth, Vec<ClientAuth>, bool)> {
        if let Some(fixed) = &self.auth {
            return Ok((fixed.clone(), Vec::new(), true));
        }
        let announced = metadata.map_or(&[][..], |metadata| &metadata.auth_methods);
        let method = ClientAuth::announced(announced).map_err(|error| {
            self.discovery.doubt();
            error.with_server(self.server())
        })?;
        if !matches!(method, ClientAuth::ClientSecretBasic) {
            return Ok((method, Vec::new(), true));
        }
        let is_offered =
            announced.is_empty() || announced.iter().any(|method| method == "client_secret_post");
        // A secret in a body shows in more places than one in a header does, and so goes over no opted-out http.
        let may_post = is_offered && (url.scheme() == "https" || origin::is_loopback(url));
        let (ways, is_proven) = self.learned.ways(credentials, may_post, of_many);
        let mut ways = ways.into_iter().map(ClientAuth::from);
        let first = ways.next().unwrap_or(ClientAuth::ClientSecretBasic);
        Ok((first, ways.collect(), is_proven))
    }
}

#[cfg(test)]
mod tests;
