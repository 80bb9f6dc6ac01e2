use std::borrow::Cow;

use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::key_format;
use super::signing_key::Pair;
use crate::error::{Error, Result};

/// A private key as RFC 7517 has it. The members are borrowed, so that no unwiped copy is made.
#[derive(Deserialize)]
struct Jwk<'a> {
    kty: &'a str,
    #[serde(borrow)]
    kid: Option<Cow<'a, str>>,
    alg: Option<&'a str>,
    crv: Option<&'a str>,
    x: Option<&'a str>,
    y: Option<&'a str>,
    d: Option<&'a str>,
    n: Option<&'a str>,
    e: Option<&'a str>,
    p: Option<&'a str>,
    q: Option<&'a str>,
    dp: Option<&'a str>,
    dq: Option<&'a str>,
    qi: Option<&'a str>,
}

/// What a JWK comes to.
pub(super) struct Parsed {
    pub(super) pair: Pair,
    pub(super) algorithm: Option<String>,
    pub(super) key_id: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Parsed> {
    // Its error would quote what it met.
    let jwk: Jwk<'_> = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Error::configuration(format!("the private key is not a JWK (line {line}, column {column})"))
            .advice("give one JSON object with `kty`, not a set of keys")
    })?;
    let pair = match (jwk.kty, jwk.crv) {
        ("oct", _) => {
            return Err(Error::configuration("the JWK is a shared secret, not a private key")
                .advice("give it as app secret, with `ClientAuth::ClientSecretJwt`"));
        }
        ("RSA" | "EC" | "OKP", _) if jwk.d.is_none() => return Err(key_format::public()),
        ("RSA", _) => jwk.rsa()?,
        ("EC", Some("P-256")) => jwk.p256()?,
        ("OKP", Some("Ed25519")) => jwk.ed25519()?,
        _ => {
            return Err(Error::configuration("the JWK is of a kind that is not supported")
                .advice("use RSA of at least 2048 bits, EC on P-256, or Ed25519"));
        }
    };
    Ok(Parsed { pair, algorithm: jwk.alg.map(str::to_owned), key_id: jwk.kid.as_deref().map(str::to_owned) })
}

impl Jwk<'_> {
    fn rsa(&self) -> Result<Pair> {
        let (n, e) = (member("n", self.n)?, member("e", self.e)?);
        let (d, p, q) = (member("d", self.d)?, member("p", self.p)?, member("q", self.q)?);
        let (dp, dq, qi) = (member("dp", self.dp)?, member("dq", self.dq)?, member("qi", self.qi)?);
        let components = KeyPairComponents::<&[u8]> {
            public_key: PublicKeyComponents { n: unpadded(&n), e: unpadded(&e) },
            d: &d,
            p: &p,
            q: &q,
            dP: &dp,
            dQ: &dq,
            qInv: &qi,
        };
        if components.public_key.n.len() < 256 {
            return Err(key_format::too_small());
        }
        RsaKeyPair::from_components(&components).map(Pair::Rsa).map_err(|_| contradictory())
    }

    fn p256(&self) -> Result<Pair> {
        let (x, y, d) = (member("x", self.x)?, member("y", self.y)?, member("d", self.d)?);
        // An uncompressed point (SEC 1 2.3.3).
        let point = [&[4], &**x, &**y].concat();
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, &point)
            .map(Pair::Ec)
            .map_err(|_| contradictory())
    }

    fn ed25519(&self) -> Result<Pair> {
        let (x, d) = (member("x", self.x)?, member("d", self.d)?);
        Ed25519KeyPair::from_seed_and_public_key(&d, &x).map(Pair::Ed25519).map_err(|_| contradictory())
    }
}

fn contradictory() -> Error {
    Error::configuration("the members of the JWK do not make one key")
}

fn member(name: &str, text: Option<&str>) -> Result<Zeroizing<Vec<u8>>> {
    let text = text.ok_or_else(|| Error::configuration(format!("the JWK has no `{name}`")))?;
    let mut bytes = Zeroizing::new(vec![0; text.len()]);
    let length = URL_SAFE_NO_PAD
        .decode_slice(text, &mut bytes)
        .map_err(|_| Error::configuration(format!("the JWK's `{name}` is not base64url")))?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Some encoders put a zero in front, which the crypto library takes amiss in public members.
fn unpadded(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}
