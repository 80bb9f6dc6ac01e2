//! Verification of DPoP proofs (RFC 9449 4.3). It knows nothing of the server around it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};
use serde_json::Value;
use url::Url;

use super::PROOF;
use super::public_jwk::{hash, thumbprint};

/// The algorithms that are taken, as challenges and metadata name them.
pub(crate) const ALGORITHMS: [&str; 2] = ["ES256", "EdDSA"];

/// By how much a proof's `iat` may differ from the time here, either way.
const WINDOW: Duration = Duration::from_secs(60);

/// The request that a proof must be for.
pub(crate) struct Expected<'a> {
    pub(crate) method: &'a Method,
    /// Query and fragment of it do not count.
    pub(crate) url: &'a str,
    /// Since the Unix epoch.
    pub(crate) now: Duration,
    /// The one that the server gave, where it wants one.
    pub(crate) nonce: Option<&'a str>,
    /// The access token in the same request.
    pub(crate) token: Option<&'a str>,
}

/// Why a proof does not count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// There is none.
    Missing,
    /// It is wrong; this is the first check that says so.
    Invalid(&'static str),
    /// All is right but the nonce.
    Nonce,
    /// More proofs came than can be remembered.
    NoRoom,
}

use Unproven::Invalid;

/// A proof that holds, if it was not used before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The thumbprint of its key, to which tokens are bound.
    pub(crate) jkt: String,
    /// Of key and `jti`.
    id: u128,
}

/// How long a proof is remembered at least: it may have been ahead of the time here by one window.
const MEMORY: Duration = Duration::from_secs(2 * WINDOW.as_secs());

const SHARDS: usize = 16;

/// The proofs of the last minutes, so that none counts twice (RFC 9449 11.1): 16 bytes of each, and no more of them than
/// there is room for.
pub(crate) struct Seen {
    shards: [Mutex<Shard>; SHARDS],
    /// How many one shard holds in one memory's time.
    room: usize,
}

/// What was seen since `begun`, and in the time before that.
#[derive(Default)]
struct Shard {
    begun: Duration,
    now: HashSet<u128>,
    before: HashSet<u128>,
}

impl Seen {
    /// With room for so many proofs in two minutes.
    pub(crate) fn with_room(room: usize) -> Self {
        Self { shards: Default::default(), room: room.div_ceil(SHARDS).max(1) }
    }

    /// Remembers a proof; an error where it was here before, or where there is no room to remember it.
    pub(crate) fn remember(&self, proof: &Proof, now: Duration) -> Result<(), Unproven> {
        let mut shard = lock(&self.shards[proof.id as usize % SHARDS]);
        // The clock may have been set back: what was seen is kept longer then.
        let age = now.saturating_sub(shard.begun);
        if age >= MEMORY {
            let last = std::mem::take(&mut shard.now);
            shard.before = if age < 2 * MEMORY { last } else { HashSet::new() };
            shard.begun = now;
        }
        if shard.before.contains(&proof.id) || shard.now.contains(&proof.id) {
            return Err(Invalid("it was used before"));
        }
        if shard.now.len() >= self.room {
            return Err(Unproven::NoRoom);
        }
        shard.now.insert(proof.id);
        Ok(())
    }

    /// Verifies the proof among a request's headers and remembers it; gives the thumbprint of its key.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn verify(&self, headers: &HeaderMap, expected: &Expected<'_>) -> Result<String, Unproven> {
        let proof = verify(headers, expected)?;
        self.remember(&proof, expected.now)?;
        Ok(proof.jkt)
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The checks that need no memory, in the order of RFC 9449 4.3.
pub(crate) fn verify(headers: &HeaderMap, expected: &Expected<'_>) -> Result<Proof, Unproven> {
    let mut all = headers.get_all(PROOF).iter();
    let proof = match (all.next(), all.next()) {
        (None, _) => return Err(Unproven::Missing),
        (Some(proof), None) => proof.to_str().map_err(|_| Invalid("it is no JWT"))?,
        (Some(_), Some(_)) => return Err(Invalid("there is more than one")),
    };
    let (message, signature) = proof.rsplit_once('.').ok_or(Invalid("it is no JWT"))?;
    let (header, claims) = message.split_once('.').ok_or(Invalid("it is no JWT"))?;
    let (header, claims) = parsed(header).zip(parsed(claims)).ok_or(Invalid("it is no JWT"))?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| Invalid("it is no JWT"))?;

    let text = |name: &'static str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let (Some(jti), Some(htm), Some(htu)) = (text("jti"), text("htm"), text("htu")) else {
        return Err(Invalid("a claim is missing"));
    };
    let issued = claims.get("iat").and_then(Value::as_f64);
    let issued = issued.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let issued = issued.ok_or(Invalid("a claim is missing"))?;
    if header.get("typ").and_then(Value::as_str) != Some("dpop+jwt") {
        return Err(Invalid("its type is another"));
    }
    let jwk = header.get("jwk").ok_or(Invalid("it has no key"))?;
    let alg = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    let (algorithm, key) = public_key(alg, jwk)?;
    if ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|private| jwk.get(private).is_some()) {
        return Err(Invalid("its key is a private one"));
    }
    UnparsedPublicKey::new(algorithm, key)
        .verify(message.as_bytes(), &signature)
        .map_err(|_| Invalid("its signature is wrong"))?;

    if htm != expected.method.as_str() {
        return Err(Invalid("it is for another method"));
    }
    let (Some(there), Some(here)) = (target(htu), target(expected.url)) else {
        return Err(Invalid("it is for another URL"));
    };
    if there != here {
        return Err(Invalid("it is for another URL"));
    }
    if issued.abs_diff(expected.now) > WINDOW {
        return Err(Invalid("it is of another time"));
    }
    if let Some(token) = expected.token
        && text("ath") != Some(&hash(token.as_bytes()))
    {
        return Err(Invalid("it is for another token"));
    }
    if expected.nonce.is_some() && text("nonce") != expected.nonce {
        return Err(Unproven::Nonce);
    }
    let jkt = thumbprint(jwk).ok_or(Invalid("its key is of another kind"))?;
    let digest = digest(&SHA256, [jkt.as_str(), jti].join(" ").as_bytes());
    let id = digest.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
    Ok(Proof { jkt, id })
}

/// Of an asymmetric algorithm that is taken, and so never `none`.
fn public_key(alg: &str, jwk: &Value) -> Result<(&'static dyn VerificationAlgorithm, Vec<u8>), Unproven> {
    let member = |name: &str| jwk.get(name).and_then(Value::as_str);
    let bytes = |name: &str| member(name).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let unusable = Invalid("its key is of another kind");
    match (alg, member("kty"), member("crv")) {
        ("ES256", Some("EC"), Some("P-256")) => {
            let (x, y) = bytes("x").zip(bytes("y")).ok_or(unusable)?;
            Ok((&ECDSA_P256_SHA256_FIXED, [vec![4], x, y].concat()))
        }
        ("EdDSA", Some("OKP"), Some("Ed25519")) => Ok((&ED25519, bytes("x").ok_or(unusable)?)),
        ("ES256" | "EdDSA", ..) => Err(unusable),
        _ => Err(Invalid("its algorithm is another")),
    }
}

fn target(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

fn parsed(part: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok().filter(Value::is_object)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
    const JKT: &str = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";

    /// RFC 9449 4.1.
    const AT_TOKEN_ENDPOINT: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
        VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
        nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
        QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIj\
        oiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwia\
        WF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg\
        4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    /// RFC 9449 7.1.
    const AT_API: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
        VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
        nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
        QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj\
        oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z\
        WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF\
        c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E\
        OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";

    fn expected<'a>(method: &'a Method, url: &'a str, now: u64) -> Expected<'a> {
        Expected { method, url, now: Duration::from_secs(now), nonce: None, token: None }
    }

    fn with(proofs: &[&str]) -> HeaderMap {
        proofs.iter().map(|proof| (PROOF, HeaderValue::from_str(proof).unwrap())).collect()
    }

    #[test]
    fn the_rfcs_proofs_hold_once() {
        let seen = Seen::with_room(1000);
        let expected = expected(&Method::POST, "https://server.example.com/token?x#y", 1_562_262_616);
        assert_eq!(seen.verify(&with(&[AT_TOKEN_ENDPOINT]), &expected).unwrap(), JKT);
        let again = seen.verify(&with(&[AT_TOKEN_ENDPOINT]), &expected);
        assert_eq!(again, Err(Invalid("it was used before")));

        let url = "https://resource.example.org/protectedresource";
        let expected = super::tests::expected(&Method::GET, url, 1_562_262_618);
        let expected = Expected { token: Some(TOKEN), ..expected };
        assert_eq!(seen.verify(&with(&[AT_API]), &expected).unwrap(), JKT);
    }

    struct Prover(EcdsaKeyPair);

    impl Prover {
        fn new() -> Self {
            Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
        }

        fn jwk(&self) -> Value {
            let point = &self.0.public_key().as_ref()[1..];
            let [x, y] = [&point[..32], &point[32..]].map(|part| URL_SAFE_NO_PAD.encode(part));
            json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y })
        }

        /// The right proof for a `GET` of `https://api.example/x` at 1000 s, with these members changed.
        fn proof(&self, header: Value, claims: Value) -> String {
            let mut parts = [
                json!({ "typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk() }),
                json!({
                    "jti": "1", "htm": "GET", "htu": "https://api.example/x", "iat": 1000, "ath": hash(b"t"),
                    "nonce": "n",
                }),
            ];
            for (part, changes) in parts.iter_mut().zip([header, claims]) {
                for (name, value) in changes.as_object().unwrap() {
                    match value {
                        Value::Null => part.as_object_mut().unwrap().remove(name),
                        value => part.as_object_mut().unwrap().insert(name.clone(), value.clone()),
                    };
                }
            }
            let message = parts.map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    fn judged(proofs: &[&str]) -> Result<String, Unproven> {
        let expected = expected(&Method::GET, "https://api.example/x?q", 1000);
        verify(&with(proofs), &Expected { nonce: Some("n"), token: Some("t"), ..expected })
            .map(|proof| proof.jkt)
    }

    #[test]
    fn each_wrong_proof_is_refused_by_its_own_check() {
        let prover = Prover::new();
        let none = || json!({});
        let right = prover.proof(none(), none());
        assert_eq!(judged(&[&right]), Ok(thumbprint(&prover.jwk()).unwrap()));
        // What may differ without harm.
        for claims in [
            json!({ "iat": 940 }),
            json!({ "iat": 1060.0 }),
            json!({ "htu": "https://API.example:443/x#y" }),
            json!({ "exp": 1 }),
        ] {
            assert!(judged(&[&prover.proof(none(), claims.clone())]).is_ok(), "{claims}");
        }

        assert_eq!(judged(&[]), Err(Unproven::Missing));
        assert_eq!(judged(&[&right, &right]), Err(Invalid("there is more than one")));
        for no_jwt in ["", "a", "a.b", "e30.e30", "e30.W10.AA", &format!("{right}.x"), &format!("{right}, x")]
        {
            assert_eq!(judged(&[no_jwt]), Err(Invalid("it is no JWT")), "{no_jwt}");
        }
        let mut private = prover.jwk();
        private["d"] = "AA".into();
        let stranger = Prover::new().jwk();
        for (header, said) in [
            (json!({ "typ": "JWT" }), "its type is another"),
            (json!({ "typ": null }), "its type is another"),
            (json!({ "jwk": null }), "it has no key"),
            (json!({ "alg": "none" }), "its algorithm is another"),
            (json!({ "alg": "HS256" }), "its algorithm is another"),
            (json!({ "alg": null }), "its algorithm is another"),
            (json!({ "alg": "EdDSA" }), "its key is of another kind"),
            (json!({ "jwk": { "kty": "oct", "k": "AA" } }), "its key is of another kind"),
            (json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": "AA" } }), "its key is of another kind"),
            (json!({ "jwk": private }), "its key is a private one"),
            (json!({ "jwk": stranger }), "its signature is wrong"),
            (
                json!({ "jwk": { "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" } }),
                "its signature is wrong",
            ),
        ] {
            assert_eq!(judged(&[&prover.proof(header.clone(), none())]), Err(Invalid(said)), "{header}");
        }
        for (claims, said) in [
            (json!({ "jti": null }), "a claim is missing"),
            (json!({ "jti": "" }), "a claim is missing"),
            (json!({ "htm": null }), "a claim is missing"),
            (json!({ "htu": 1 }), "a claim is missing"),
            (json!({ "iat": "1000" }), "a claim is missing"),
            (json!({ "iat": -1 }), "a claim is missing"),
            (json!({ "htm": "POST" }), "it is for another method"),
            (json!({ "htm": "get" }), "it is for another method"),
            (json!({ "htu": "https://api.example/y" }), "it is for another URL"),
            (json!({ "htu": "http://api.example/x" }), "it is for another URL"),
            (json!({ "htu": "/x" }), "it is for another URL"),
            (json!({ "iat": 939 }), "it is of another time"),
            (json!({ "iat": 1061 }), "it is of another time"),
            (json!({ "ath": null }), "it is for another token"),
            (json!({ "ath": hash(b"u") }), "it is for another token"),
        ] {
            assert_eq!(judged(&[&prover.proof(none(), claims.clone())]), Err(Invalid(said)), "{claims}");
        }
        for nonce in [json!(null), json!("old"), json!("")] {
            assert_eq!(judged(&[&prover.proof(none(), json!({ "nonce": nonce }))]), Err(Unproven::Nonce));
        }
        // Signed for something else.
        let other = prover.proof(none(), json!({ "jti": "2" }));
        let forged = [right.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1].join(".");
        assert_eq!(judged(&[&forged]), Err(Invalid("its signature is wrong")));
    }

    #[test]
    fn what_was_seen_is_forgotten_when_it_could_not_count_any_more() {
        let (prover, seen) = (Prover::new(), Seen::with_room(1000));
        let at = |now| Expected { nonce: None, ..expected(&Method::GET, "https://api.example/x", now) };
        let proof = prover.proof(json!({}), json!({ "iat": 1060 }));
        seen.verify(&with(&[&proof]), &at(1000)).unwrap();
        assert_eq!(seen.verify(&with(&[&proof]), &at(1120)), Err(Invalid("it was used before")));
        // Another key's is another proof.
        let other = Prover::new().proof(json!({}), json!({ "iat": 1060 }));
        seen.verify(&with(&[&other]), &at(1060)).unwrap();
        let held = || {
            let of = |shard: &Mutex<Shard>| {
                let shard = lock(shard);
                shard.now.len() + shard.before.len()
            };
            seen.shards.iter().map(of).sum::<usize>()
        };
        assert_eq!(held(), 2);
        for shard in &seen.shards {
            // Whatever comes much later sweeps the shard.
            let id = seen.shards.iter().position(|other| std::ptr::eq(other, shard)).unwrap() as u128;
            seen.remember(&Proof { jkt: String::new(), id }, Duration::from_secs(1400)).unwrap();
        }
        assert_eq!(held(), SHARDS);
    }

    #[test]
    fn a_proof_that_cannot_be_remembered_does_not_count() {
        let seen = Seen::with_room(SHARDS * 2);
        let remember = |id, now| seen.remember(&Proof { jkt: String::new(), id }, Duration::from_secs(now));
        let shard = |n: u128| n * SHARDS as u128;
        remember(shard(1), 1000).unwrap();
        remember(shard(2), 1000).unwrap();
        assert_eq!(remember(shard(3), 1000), Err(Unproven::NoRoom));
        assert_eq!(remember(shard(2), 1000), Err(Invalid("it was used before")));
        // Where the clock is set back nothing is forgotten.
        assert_eq!(remember(shard(2), 10), Err(Invalid("it was used before")));
        remember(shard(3), 1120).unwrap();
        assert_eq!(remember(shard(2), 1120), Err(Invalid("it was used before")));
    }
}
