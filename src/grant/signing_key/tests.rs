use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;
use crate::error::ErrorKind;

/// RFC 7515 A.2.
const RSA: &str = r#"{"kty":"RSA",
    "n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
    "e":"AQAB",
    "d":"Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTGoVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQUShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ",
    "p":"4BzEEOtIpmVdVEZNCqS7baC4crd0pqnRH_5IB3jw3bcxGn6QLvnEtfdUdiYrqBdss1l58BQ3KhooKeQTa9AB0Hw_Py5PJdTJNPY8cQn7ouZ2KKDcmnPGBY5t7yLc1QlQ5xHdwW1VhvKn-nXqhJTBgIPgtldC-KDV5z-y2XDwGUc",
    "q":"uQPEfgmVtjL0Uyyx88GZFF1fOunH3-7cepKmtH4pxhtCoHqpWmT8YAmZxaewHgHAjLYsp1ZSe7zFYHj7C6ul7TjeLQeZD_YwD66t62wDmpe_HlB-TnBA-njbglfIsRLtXlnDzQkv5dTltRJ11BKBBypeeF6689rjcJIDEz9RWdc",
    "dp":"BwKfV3Akq5_MFZDFZCnW-wzl-CCo83WoZvnLQwCTeDv8uzluRSnm71I3QCLdhrqE2e9YkxvuxdBfpT_PI7Yz-FOKnu1R6HsJeDCjn12Sk3vmAktV2zb34MCdy7cpdTh_YVr7tss2u6vneTwrA86rZtu5Mbr1C1XsmvkxHQAdYo0",
    "dq":"h_96-mK1R_7glhsum81dZxjTnYynPbZpHziZjeeHcXYsXaaMwkOlODsWa7I9xXDoRwbKgB719rrmI2oKr6N3Do9U0ajaHF-NKJnwgjMd2w9cjz3_-kyNlxAr2v4IKhGNpmM5iIgOS1VZnOZ68m6_pbLBSp3nssTdlqvd0tIiTHU",
    "qi":"IYd7DHOhrWvxkwPQsRM2tOgrjbcrfvtQJipd-DlcxyVuuM9sQLdgjVk2oy26F0EmpScGLq2MowX7fhd_QJQ3ydy5cY7YIBi87w93IKLEdfnbJtoOPLUW0ITrJReOgo1cq9SbsxYawBgfp_gh6A5603k2-ZQwVK0JKSHuLFkuQ3U"}"#;
const RSA_INPUT: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
const RSA_SIGNATURE: &str = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

/// RFC 7515 A.3.
const EC: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI"}"#;

/// RFC 8037 A.1 and A.4.
const ED: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A",
    "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// RSA of 1024 bits, EC on P-384, and an encrypted key, each as PKCS#8.
const SMALL: &str = "MIICXQIBAAKBgQDEcKqPqQ37g3tKxAJzEy/wn2ZFq0a818JkTWOL5Q0imbpRWqstshl3VmMfYNa4peB2qyT9SCbvCQ7cjAUXvuYaKVzeEmcpls9N4oQx2NUS49NoQTygm/0uzAige6yEMaseHPlrmx1EEmh1MhPWHEPNThknYPVE960UcXFvGP7PZQIDAQABAoGAVvRQa7s3l0gCQXw2YV3y8J5+lQRWEa2oPOIM2JYRlGlcEjsCXv3hS/QPeIpTQfUbQSxM+VkA8vqde373miVEkTVitKQTAfGq90Rwf4FnOMGrdJa1SJUvqXXti3gFlJV8krEkg9dKjrkQfGkq/DPdppLhzXWVwrgU+VVeSz2s3gECQQDpMapWE2U8y+qryLaPD+17tIugxy8OBsJL1jmkGuZcDX5RekU3d43ddOkL6q7vGk/v9CmwkFTkC36YB+wkdf/BAkEA16bQ6VpnJA1MT37/qD0/KqEXl0hJK1ZbymuJgjnpss0v2WlBpCIwzPzRXzC2X6PGv3nTvhjMBV+ZvydSdK74pQJARTtih9WQS+F6lW+si4K+DekHPz+Df9WP37YFPOxjkdbLtuLnI9WRv7rS6Z/OOdyE+QdzTSE8osuq1PYdLKH/wQJBAJfFw8o34dcxtL9ONkgFsushrSS/rx9dDAUOYhzQ/XTljAOLXLNTjNz4IbLI6dGtxjcEWs2zTgOKIP6zggi1DDECQQDCbnitsg+4dQ/60k7+rpNHghsOX+qZ39F7chK9QWg28yPp2sv8wB7brq7RHg9cAPNYt5mJ6FvOSstA/Jjl3gc5";
const P384: &str = "MIG2AgEAMBAGByqGSM49AgEGBSuBBAAiBIGeMIGbAgEBBDA9lzop0S4kbl4WhkOBQP/GQiSXSaNI+mYC5RNGNcdTND7MP3MP/GR+ODLSI7XDAXuhZANiAATnkSMwJ4X85PDauCOachec3e4okDOFp6KYMTyBRYwjT5vyc0ZeFEzkFM0LaNdT1Ah/FJCqFzUEWO6TtxG1fd6THeg0LUcdaxTFZ1pGWc9+oc7yFKkMRJzNvAUWyr/IFvA=";
const ENCRYPTED: &str = "MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiIXWlg8chx2gICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEPvTkf1cRsQpaGvxwAl74hMEQICPIXujpBhkjEZFlgGt+Eu8SXxrs6WLVu5i+2ZzguZj9OanjWUkcuKySUB9x4nXmSCHOl4UGJDlJb9z2rxQrSM=";

fn url(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

fn base64(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\r\n"))
}

async fn signature(key: &SigningKey, input: &str) -> Vec<u8> {
    key.sign(input.as_bytes()).await.unwrap()
}

#[tokio::test]
async fn the_rfcs_signatures() {
    let rsa = SigningKey::from_jwk(RSA).unwrap();
    assert_eq!(rsa.algorithm(), SigningAlgorithm::Rs256);
    assert_eq!(signature(&rsa, RSA_INPUT).await, url(RSA_SIGNATURE));

    let ed = SigningKey::from_jwk(ED).unwrap();
    let made = signature(&ed, "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc").await;
    assert_eq!(
        made,
        url("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg")
    );
}

/// These are drawn anew each time, so they are verified; ES256 also on the RFC's own signature.
#[tokio::test]
async fn signatures_that_differ_each_time_verify() {
    let ec = SigningKey::from_jwk(EC).unwrap();
    let Pair::Ec(pair) = &*ec.pair else { panic!("not EC") };
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
    let input = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9p\
                 c19yb290Ijp0cnVlfQ";
    let theirs = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    public.verify(input.as_bytes(), &url(theirs)).unwrap();
    public.verify(input.as_bytes(), &signature(&ec, input).await).unwrap();
    assert!(public.verify(b"another", &url(theirs)).is_err());

    let rsa = SigningKey::from_jwk(RSA).unwrap();
    let Pair::Rsa(pair) = &*rsa.pair else { panic!("not RSA") };
    let public = pair.public_key().as_ref();
    let pss = rsa.clone().with_algorithm(SigningAlgorithm::Ps256).unwrap();
    let made = signature(&pss, input).await;
    UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, public).verify(input.as_bytes(), &made).unwrap();
    assert!(
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public).verify(input.as_bytes(), &made).is_err()
    );
}

/// The same key in every form signs alike, or verifies alike.
#[tokio::test]
async fn every_form_is_read() {
    let rsa = SigningKey::from_jwk(RSA).unwrap();
    let Pair::Rsa(pair) = &*rsa.pair else { panic!("not RSA") };
    let pkcs8 = pair.as_der().unwrap();
    // PKCS#8 of RSA ends with the PKCS#1 structure in an OCTET STRING (RFC 5958 2).
    let pkcs1 = &pkcs8.as_ref()[26..];
    for key in [
        SigningKey::from_der(pkcs8.as_ref()),
        SigningKey::from_der(pkcs1),
        SigningKey::from_pem(pem("PRIVATE KEY", pkcs8.as_ref())),
        SigningKey::from_pem(format!(
            "text before\n{}{}",
            pem("CERTIFICATE", b"x"),
            pem("RSA PRIVATE KEY", pkcs1)
        )),
    ] {
        assert_eq!(signature(&key.unwrap(), RSA_INPUT).await, url(RSA_SIGNATURE));
    }

    let ec = SigningKey::from_jwk(EC).unwrap();
    let Pair::Ec(pair) = &*ec.pair else { panic!("not EC") };
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref().to_vec());
    let pkcs8 = pair.to_pkcs8v1().unwrap();
    let sec1 = pair.private_key();
    let sec1 = AsDer::<aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_>>::as_der(&sec1).unwrap();
    for key in [
        SigningKey::from_der(pkcs8.as_ref()),
        SigningKey::from_der(sec1.as_ref()),
        SigningKey::from_pem(pem("PRIVATE KEY", pkcs8.as_ref())),
        SigningKey::from_pem(format!(
            "{}{}",
            pem("EC PARAMETERS", b"x"),
            pem("EC PRIVATE KEY", sec1.as_ref())
        )),
    ] {
        public.verify(b"m", &signature(&key.unwrap(), "m").await).unwrap();
    }

    let ed = SigningKey::from_jwk(ED).unwrap();
    let Pair::Ed25519(pair) = &*ed.pair else { panic!("not Ed25519") };
    for pkcs8 in [pair.to_pkcs8v1().unwrap(), pair.to_pkcs8().unwrap()] {
        let key = SigningKey::from_pem(pem("PRIVATE KEY", pkcs8.as_ref())).unwrap();
        assert_eq!(signature(&key, "m").await, signature(&ed, "m").await);
    }
}

#[test]
fn what_is_wrong_with_a_key_is_told() {
    let rsa = SigningKey::from_jwk(RSA).unwrap();
    let Pair::Rsa(pair) = &*rsa.pair else { panic!("not RSA") };
    let pkcs1_public = pair.public_key().as_ref();
    let pem_of = |label: &str, der: &[u8]| SigningKey::from_pem(pem(label, der));
    let whole = pem("PRIVATE KEY", &base64(SMALL));
    let swapped = ED.replace("11qY", "12qY");
    for (case, outcome, said) in [
        ("1024 bits", pem_of("PRIVATE KEY", &base64(SMALL)), "less than 2048 bits"),
        ("1024 bits DER", SigningKey::from_der(base64(SMALL)), "less than 2048 bits"),
        ("P-384", pem_of("PRIVATE KEY", &base64(P384)), "not supported"),
        ("encrypted", pem_of("ENCRYPTED PRIVATE KEY", &base64(ENCRYPTED)), "is encrypted"),
        ("encrypted DER", SigningKey::from_der(base64(ENCRYPTED)), "is encrypted"),
        (
            "encrypted, old style",
            SigningKey::from_pem(
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA\n-----END RSA PRIVATE KEY-----",
            ),
            "is encrypted",
        ),
        ("public", pem_of("PUBLIC KEY", b"x"), "a public key"),
        ("public PKCS#1", SigningKey::from_der(pkcs1_public), "a public key"),
        ("a certificate", pem_of("CERTIFICATE", b"x"), "a public key or a certificate"),
        ("OpenSSH", pem_of("OPENSSH PRIVATE KEY", b"x"), "OpenSSH"),
        ("no PEM", SigningKey::from_pem("canary"), "no block of a private key"),
        ("torn PEM", SigningKey::from_pem(&whole[..200]), "has no end"),
        ("torn DER", SigningKey::from_der(&base64(SMALL)[..200]), "not whole"),
        ("not Base64", SigningKey::from_pem(whole.replace("MII", "!!!")), "not Base64"),
        ("not text", SigningKey::from_pem(b"\xFF"), "not text"),
        ("empty", SigningKey::from_der(b""), "not DER"),
        ("a public JWK", SigningKey::from_jwk(ED.replace("\"d\"", "\"_\"")), "a public key"),
        ("a secret as JWK", SigningKey::from_jwk(r#"{"kty":"oct","k":"canary"}"#), "shared secret"),
        ("a set of keys", SigningKey::from_jwk(r#"{"keys":[]}"#), "not a JWK"),
        ("JWK without p", SigningKey::from_jwk(RSA.replace("\"p\"", "\"_\"")), "no `p`"),
        ("JWK of two keys", SigningKey::from_jwk(swapped), "do not make one key"),
        ("JWK on another curve", SigningKey::from_jwk(EC.replace("P-256", "P-521")), "not supported"),
        ("JWK for RS512", SigningKey::from_jwk(RSA.replacen('{', "{\"alg\":\"RS512\",", 1)), "another `alg`"),
        ("wrong algorithm", rsa.clone().with_algorithm(SigningAlgorithm::Es256), "cannot sign by ES256"),
    ] {
        let error = outcome.expect_err(case);
        assert_eq!(error.kind(), ErrorKind::Configuration, "{case}");
        assert!(error.to_string().contains(said), "{case}: {error}");
        assert!(!format!("{error:?}").contains("canary"), "{case}: {error:?}");
    }
}

#[test]
fn a_jwk_brings_its_name_and_algorithm() {
    let with = |more: &str, jwk: &str| SigningKey::from_jwk(jwk.replacen('{', more, 1)).unwrap();
    let key = with(r#"{"kid":"k\"1","alg":"PS256","#, RSA);
    assert_eq!((key.key_id(), key.algorithm()), (Some("k\"1"), SigningAlgorithm::Ps256));
    assert_eq!(with(r#"{"alg":"Ed25519","#, ED).algorithm(), SigningAlgorithm::EdDsa);
    assert_eq!(key.with_key_id("k2").key_id(), Some("k2"));
}

#[test]
fn discovery_chooses_only_where_a_choice_is_left() {
    let rsa = SigningKey::from_jwk(RSA).unwrap();
    let fixed = rsa.clone().with_algorithm(SigningAlgorithm::Rs256).unwrap();
    let choose = |key: &SigningKey, announced: &[&str]| {
        key.for_server(&announced.iter().map(|name| (*name).into()).collect::<Vec<_>>()).algorithm().name()
    };
    for (announced, chosen) in [
        (&[][..], "RS256"),
        (&["PS256", "RS256"], "RS256"),
        (&["ES256", "PS256"], "PS256"),
        (&["ES256"], "RS256"),
    ] {
        assert_eq!(choose(&rsa, announced), chosen, "{announced:?}");
        assert_eq!(choose(&fixed, announced), "RS256", "{announced:?}");
    }
}

#[test]
fn debug_shows_kind_and_name_only() {
    let key = SigningKey::from_jwk(ED).unwrap().with_key_id("k1");
    assert_eq!(format!("{key:?}"), "SigningKey { algorithm: EdDsa, key_id: Some(\"k1\"), .. }");
}
