use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tokio::runtime::Handle;

use super::ending::Revocation;
use crate::clock::Clock;
use crate::credentials::CredentialCell;
use crate::error::{Error, Result};
use crate::grant::{GrantRequest, Possession, TokenEndpoint};
use crate::origin::TrustedOrigins;
use crate::renewal::{Refresher, RenewalPolicy};
use crate::secret::SecretString;

/// The user's word for an answer of the API that refuses the token.
pub(crate) type RefusedWhen = Arc<dyn Fn(StatusCode, &HeaderMap) -> bool + Send + Sync>;

const MOST_MEMBERS: usize = 64;
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

/// The sources that share one credential, one set of settings, and one authorization server.
pub(crate) struct Family {
    pub(super) origins: TrustedOrigins,
    pub(super) token_timeout: Duration,
    pub(super) credentials: Arc<CredentialCell>,
    pub(super) endpoint: TokenEndpoint,
    /// Where tokens are bound to a key.
    pub(super) dpop: Option<Arc<Possession>>,
    /// Which answers of the API are refusals besides those of the standards.
    pub(super) refused_when: Option<RefusedWhen>,
    pub(super) clock: Clock,
    pub(super) policy: RenewalPolicy,
    pub(super) runtime: Option<Handle>,
    pub(super) seed: Option<u64>,
    /// What logs and metrics call the client.
    pub(super) name: Option<Arc<str>>,
    /// Where tokens are revoked by `shutdown`, if they are.
    pub(super) revocation: Option<Revocation>,
    pub(super) members: Mutex<Members>,
}

#[derive(Default)]
pub(super) struct Members {
    /// Kept alive though nobody holds them, the most recently used last. Bounded, since each is a task and a token to pay
    /// for.
    kept: Vec<Arc<Member>>,
    /// All that live, be it that only a handle keeps them.
    all: Vec<Weak<Member>>,
    closed: bool,
}

impl Members {
    fn living(&self) -> impl Iterator<Item = Arc<Member>> {
        self.all.iter().filter_map(Weak::upgrade)
    }
}

/// The end of the last handle is the end of the task.
pub(crate) struct Member(Arc<Refresher>);

impl Member {
    #[inline]
    pub(super) fn refresher(&self) -> &Arc<Refresher> {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Family {
    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The one source for this request: all that shapes a token is part of the key.
    pub(super) fn member(&self, request: GrantRequest) -> Arc<Member> {
        let mut members = self.members();
        let known = members.living().find(|member| *member.0.grant_request() == request);
        let member = match known {
            Some(member) => member,
            None => {
                let refresher = Refresher::new(
                    self.endpoint.for_request(request),
                    self.credentials.clone(),
                    self.clock.clone(),
                    self.policy.clone(),
                    self.runtime.clone(),
                    self.seed,
                )
                .named(self.name.clone());
                if members.closed {
                    refresher.close();
                }
                let member = Arc::new(Member(Arc::new(refresher)));
                members.all.retain(|member| member.strong_count() > 0);
                members.all.push(Arc::downgrade(&member));
                member
            }
        };
        members.kept.retain(|kept| !Arc::ptr_eq(kept, &member));
        members.kept.push(member.clone());
        let evicted = (members.kept.len() > MOST_MEMBERS).then(|| members.kept.remove(0));
        drop(members);
        drop(evicted);
        member
    }

    pub(super) fn set_credentials(&self, app_id: String, app_secret: SecretString) -> Result<()> {
        if self.members().closed {
            return Err(Error::closed());
        }
        self.credentials.set(app_id, app_secret)?;
        let members: Vec<_> = self.members().living().collect();
        for member in members {
            member.0.credential_changed();
        }
        Ok(())
    }

    pub(super) async fn shutdown(&self) -> Result<()> {
        let members: Vec<_> = {
            let mut members = self.members();
            members.closed = true;
            let living = members.living().collect();
            members.kept.clear();
            living
        };
        let (mut tasks, mut tokens) = (Vec::new(), Vec::new());
        for member in members {
            let remains = member.0.close();
            tasks.extend(remains.task);
            tokens.extend(remains.tokens.into_iter().map(|token| (member.0.clone(), token)));
        }
        if let Ok(mut patience) = self.sleep(SHUTDOWN_PATIENCE) {
            for task in tasks {
                tokio::select! {
                    biased;
                    _ = task => {}
                    () = &mut patience => break,
                }
            }
        }
        match &self.revocation {
            Some(revocation) => self.revoke(revocation, tokens).await,
            None => Ok(()),
        }
    }

    /// A sleep that can be awaited on any executor: its timer is that of the current or the given runtime.
    pub(super) fn sleep(&self, length: Duration) -> Result<Pin<Box<dyn Future<Output = ()> + Send>>> {
        let _entered = match Handle::try_current() {
            Ok(_) => None,
            Err(error) => Some(
                self.runtime
                    .as_ref()
                    .ok_or_else(|| {
                        Error::configuration("a token can be awaited only within a tokio runtime")
                            .with_source(error)
                            .advice("give one with `runtime`, or use `evertoken::blocking`")
                    })?
                    .enter(),
            ),
        };
        Ok(self.clock.sleep(length))
    }
}
