//! The API's side: who calls, and may they? (feature `server`)
//!
//! An API that gives out app ids and secrets has two kinds of callers: those with an SDK, who send a short-lived access
//! token, and those without, who send app id and secret themselves. Here both come out as the same thing, a [`Caller`].

mod caller;
mod digest;
mod exchange;
mod fold;
mod keys;
mod layer;
mod peer;
mod refusal;
mod time;
mod usage;
mod verifier;

pub use caller::{Caller, How};
pub use exchange::{Exchange, ExchangeBuilder, ExchangeStatus};
pub use keys::{
    Auth0Keys, CreatedKey, IssuedKey, KeyAdmin, KeyInfo, Keys, KeysBuilder, Managed, NewKey, RegisteredKeys,
    Registration, RegistrationFile, RegistrationStore, Revocation, RevocationChannel, Revocations,
};
pub use layer::{CallerLayer, CallerService, RequireScope, ScopeService};
pub use peer::PeerAddress;
pub use refusal::{Refusal, RefusalKind};
pub use usage::{
    CallOutcome, StatusClass, StoredBatch, Usage, UsageBatch, UsageBuilder, UsageFile, UsageRecord,
    UsageSink, Written,
};
pub use verifier::{
    ClientCertificate, Introspection, Profile, TokenAlgorithm, Verifier, VerifierBuilder, VerifierCondition,
};
