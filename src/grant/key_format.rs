//! In what form a private key comes, told before the crypto library sees it: its errors do not say what is wrong.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// The encodings of private keys that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// PKCS#1 (RFC 8017 A.1.2).
    Rsa,
    RsaPkcs8,
    /// SEC 1 (RFC 5915).
    Ec,
    EcPkcs8,
    Ed25519Pkcs8,
}

const RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 1];
const EC: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1];
const P256: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 3, 1, 7];
const ED25519: &[u8] = &[0x2B, 0x65, 0x70];
/// PBES2 and the older PBES1 schemes are all below this arc (RFC 8018 C).
const PKCS5: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 5];

pub(super) fn too_small() -> Error {
    Error::configuration("the RSA key has less than 2048 bits").advice("make a larger one (RFC 7518 3.3)")
}

fn encrypted() -> Error {
    Error::configuration("the private key is encrypted")
        .advice("decrypt it first: `openssl pkey -in key.pem`")
}

pub(super) fn public() -> Error {
    Error::configuration("this is a public key or a certificate, and signing needs the private key")
}

fn other_kind() -> Error {
    Error::configuration("the private key is of a kind that is not supported")
        .advice("use RSA of at least 2048 bits, EC on P-256, or Ed25519")
}

fn no_key(what: &str) -> Error {
    Error::configuration(format!("the private key is not {what}"))
}

/// The first private key of a PEM text (RFC 7468), other blocks left out.
pub(super) fn decode_pem(pem: &[u8]) -> Result<(Form, Zeroizing<Vec<u8>>)> {
    let mut rest = std::str::from_utf8(pem).map_err(|_| no_key("PEM: it is not text"))?;
    let mut seen_public = false;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let cut = || no_key("whole PEM: a block has no end");
        let (label, after) = after.split_once("-----").ok_or_else(cut)?;
        let (body, after) = after.split_once("-----END ").ok_or_else(cut)?;
        rest = after;
        match label {
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" if body.contains("ENCRYPTED") => {
                return Err(encrypted());
            }
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                let mut text = Zeroizing::new(String::with_capacity(body.len()));
                text.extend(body.split_ascii_whitespace());
                // Decoded into a buffer that does not grow, since one that grows leaves unwiped copies behind.
                let mut der = Zeroizing::new(vec![0; text.len()]);
                let length = STANDARD.decode_slice(text.as_bytes(), &mut der);
                der.truncate(length.map_err(|_| no_key("PEM: what it holds is not Base64"))?);
                return Ok((recognize(&der)?, der));
            }
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted()),
            "OPENSSH PRIVATE KEY" => {
                return Err(no_key("PKCS#8, PKCS#1 or SEC 1, but in the format of OpenSSH")
                    .advice("convert it: `ssh-keygen -p -m PKCS8 -f key`"));
            }
            _ => seen_public |= label.ends_with("PUBLIC KEY") || label.ends_with("CERTIFICATE"),
        }
    }
    Err(if seen_public { public() } else { no_key("PEM: it has no block of a private key") })
}

/// All private keys are `SEQUENCE { INTEGER version, … }`; what comes third tells them apart.
pub(super) fn recognize(der: &[u8]) -> Result<Form> {
    let holds = |oid: &[u8]| der.windows(oid.len()).take(96).any(|window| window == oid);
    let content = sequence(der).ok_or_else(|| no_key("DER, or is not whole"))?;
    match content {
        [0x02, 1, 0 | 1, 0x30, ..] if holds(RSA) => Ok(Form::RsaPkcs8),
        [0x02, 1, 0 | 1, 0x30, ..] if holds(EC) && holds(P256) => Ok(Form::EcPkcs8),
        [0x02, 1, 0 | 1, 0x30, ..] if holds(ED25519) => Ok(Form::Ed25519Pkcs8),
        [0x02, 1, 0 | 1, 0x30, ..] => Err(other_kind()),
        [0x02, 1, 0 | 1, 0x02, ..] => Ok(Form::Rsa),
        [0x02, 1, 1, 0x04, 32, ..] => Ok(Form::Ec),
        [0x02, 1, 1, 0x04, ..] => Err(other_kind()),
        [0x30, ..] if holds(PKCS5) => Err(encrypted()),
        [0x30, ..] | [0x02, ..] => Err(public()),
        _ => Err(no_key("PKCS#8, PKCS#1 or SEC 1")),
    }
}

/// What a DER `SEQUENCE` holds, if it ends where it says.
fn sequence(der: &[u8]) -> Option<&[u8]> {
    let (length, content) = match der {
        [0x30, length @ 0..=0x7F, content @ ..] => (usize::from(*length), content),
        [0x30, 0x81, length, content @ ..] => (usize::from(*length), content),
        [0x30, 0x82, high, low, content @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), content),
        _ => return None,
    };
    (content.len() == length).then_some(content)
}
