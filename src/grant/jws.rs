//! JSON Web Signatures in their compact form (RFC 7515 3.1).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::Result;
use crate::secret;

/// 128 random bits, so that no two JWTs of any process are alike.
pub(super) fn unique() -> Result<String> {
    secret::random().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

pub(super) fn signed(input: &str, signature: &[u8]) -> Zeroizing<String> {
    let mut jwt = Zeroizing::new(String::with_capacity(input.len() + 2 + signature.len().div_ceil(3) * 4));
    jwt.push_str(input);
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    jwt
}
