//! From the text of an access token to who calls: one that was seen before, and one that was not.

use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use axum_jwt_auth::{JwtDecoder, LocalDecoder};
use evertoken::server::Verifier;
use evertoken::testing::{AuthServer, Signing};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use jwt_authorizer::JwtAuthorizer;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::json;
use siphasher::sip128::SipHasher24;

/// What an API wants to know, for the peers to read into.
#[derive(Debug, Clone, Deserialize)]
struct Claims {
    client_id: String,
    #[serde(default)]
    scope: String,
}

const THREADS: [usize; 4] = [1, 2, 4, 8];

/// Each round is as long, and of the rounds the median counts.
const ROUND: Duration = Duration::from_millis(150);
const ROUNDS: usize = 7;

/// What is ready at once; nothing here waits.
fn now<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(outcome) => outcome,
        Poll::Pending => panic!("a verification waited"),
    }
}

/// The CPU time of this thread: others use the machine as well, and the threads here are more than its cores.
fn spent() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

/// Nanoseconds of CPU for one call, with so many threads that do nothing else.
fn per_call(threads: usize, call: &(dyn Fn(usize) + Sync)) -> f64 {
    let start = Barrier::new(threads);
    let spent: Vec<f64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    let (begun, before, mut calls) = (Instant::now(), spent(), 0_usize);
                    while begun.elapsed() < ROUND {
                        (0..16).for_each(|n| call(worker * 7919 + calls + n));
                        calls += 16;
                    }
                    (spent() - before) / calls as f64
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    spent.iter().sum::<f64>() / threads as f64
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

pub async fn measure() -> Vec<Vec<String>> {
    let header = ["what", "signature", "1_thread", "2_threads", "4_threads", "8_threads"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    for (signing, name) in [(Signing::Rs256, "RS256"), (Signing::Es256, "ES256")] {
        let server = AuthServer::builder().signing(signing).start().await.unwrap();
        let (issuer, audience) = (server.issuer(), server.audience());
        let tokens: Vec<String> = (0..512)
            .map(|n| {
                let claims = json!({ "jti": format!("a-token-of-the-usual-length-{n}"), "scope": "orders:read orders:write", "sub": "app@clients", "azp": "app", "org": "org_0123" });
                server.sign(json!({}), claims).unwrap()
            })
            .collect();
        let token = |n: usize| tokens[n % tokens.len()].as_str();
        println!("{name}: tokens of {} bytes", tokens[0].len());

        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(server.jwks()["keys"][0].clone()).unwrap();
        let key = DecodingKey::from_jwk(&jwk).unwrap();
        let algorithm = if name == "RS256" { Algorithm::RS256 } else { Algorithm::ES256 };
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[&audience]);
        validation.set_issuer(&[&issuer]);
        let bare = |n| {
            let claims = decode::<Claims>(token(n), &key, &validation).unwrap().claims;
            std::hint::black_box((claims.client_id, claims.scope));
        };

        let ours = || Verifier::builder(issuer.clone()).audience(audience.clone());
        let (seen, first) = (ours().build().unwrap(), ours().remembered(1).build().unwrap());
        for verifier in [&seen, &first] {
            verifier.prefetch().await.unwrap();
        }
        let seen = |n| drop(std::hint::black_box(now(seen.verify(token(n))).unwrap()));
        (0..tokens.len()).for_each(seen);
        let first = |n| drop(std::hint::black_box(now(first.verify(token(n))).unwrap()));

        let validation = jwt_authorizer::Validation::new().iss(&[&issuer]).aud(&[&audience]);
        let authorizer = JwtAuthorizer::<Claims>::from_jwks_text(&server.jwks().to_string());
        let authorizer = authorizer.validation(validation).build().await.unwrap();
        let authorizer = |n| drop(std::hint::black_box(now(authorizer.check_auth(token(n))).unwrap()));

        let jwk: jsonwebtoken10::jwk::Jwk = serde_json::from_value(server.jwks()["keys"][0].clone()).unwrap();
        let ten =
            if name == "RS256" { jsonwebtoken10::Algorithm::RS256 } else { jsonwebtoken10::Algorithm::ES256 };
        let mut validation = jsonwebtoken10::Validation::new(ten);
        validation.set_audience(&[&audience]);
        validation.set_issuer(&[&issuer]);
        let keys = vec![jsonwebtoken10::DecodingKey::from_jwk(&jwk).unwrap()];
        let decoder = LocalDecoder::builder().keys(keys).validation(validation).build().unwrap();
        let decoder = |n| {
            let decoded = now(JwtDecoder::<Claims>::decode(&decoder, token(n))).unwrap();
            std::hint::black_box(decoded.claims.client_id.len());
        };

        let hasher = SipHasher24::new_with_key(&[7; 16]);
        let hash = |n| {
            std::hint::black_box(hasher.hash(token(n).as_bytes()).as_u128());
        };
        let gcm = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16]).unwrap());
        let tag = |n| {
            let (nonce, text) = (Nonce::assume_unique_for_key([0; 12]), Aad::from(token(n)));
            drop(std::hint::black_box(gcm.seal_in_place_separate_tag(nonce, text, &mut []).unwrap()));
        };

        let contenders: [(&str, &(dyn Fn(usize) + Sync)); 7] = [
            ("the limit: the token's GCM tag", &tag),
            ("SipHash-2-4-128 of the token", &hash),
            ("evertoken, seen before", &seen),
            ("evertoken, for the first time", &first),
            ("jsonwebtoken 11 alone, its aws-lc provider", &bare),
            ("jwt-authorizer", &authorizer),
            ("axum-jwt-auth", &decoder),
        ];
        // In turns, so that whatever else the machine does hits all alike.
        let mut rounds = vec![[const { Vec::new() }; THREADS.len()]; contenders.len()];
        for _ in 0..ROUNDS {
            for ((_, call), rounds) in contenders.iter().zip(&mut rounds) {
                for (threads, rounds) in THREADS.iter().zip(rounds) {
                    rounds.push(per_call(*threads, *call));
                }
            }
        }
        for ((what, _), rounds) in contenders.iter().zip(rounds) {
            let mut row = vec![(*what).to_owned(), name.to_owned()];
            row.extend(rounds.map(|rounds| format!("{:.0}", median(rounds))));
            println!("{}", row.join(","));
            table.push(row);
        }
    }
    table
}
