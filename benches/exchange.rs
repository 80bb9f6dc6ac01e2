//! The exchange with a million customers: what each takes in memory, and how long a hit takes, beside the cache that one
//! writes first: a `RwLock<HashMap>` from app id and secret to a header. `cargo bench --bench exchange [customers]`.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    missing_debug_implementations
)]

use std::collections::HashMap;
use std::fs;
use std::future::{Future, ready};
use std::hint::black_box;
use std::pin::{Pin, pin};
use std::sync::{Arc, RwLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use evertoken::SecretString;
use evertoken::http::{HeaderValue, Request, Response};
use evertoken::server::Exchange;
use evertoken::testing::{Transport, TransportError};

const TEXT: usize = 700;
const BATCH: usize = 100;

struct AtOnce;

impl Transport for AtOnce {
    fn send(
        &self,
        _: Request<bytes::Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<bytes::Bytes>, TransportError>> + Send + '_>> {
        let body =
            format!(r#"{{"access_token":"{}","token_type":"Bearer","expires_in":86400}}"#, "t".repeat(TEXT));
        Box::pin(ready(Ok(Response::new(body.into()))))
    }
}

/// What takes part.
trait Hit: Send + Sync {
    fn hit(&self, app_id: &str, secret: &SecretString) -> HeaderValue;
}

impl Hit for Exchange {
    fn hit(&self, app_id: &str, secret: &SecretString) -> HeaderValue {
        match pin!(self.token(app_id, secret, None)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(token) => token.unwrap().authorization().clone(),
            Poll::Pending => unreachable!("a hit does not wait"),
        }
    }
}

struct Naive(RwLock<HashMap<(String, String), (HeaderValue, Instant)>>);

impl Hit for Naive {
    fn hit(&self, app_id: &str, secret: &SecretString) -> HeaderValue {
        use secrecy::ExposeSecret;
        let key = (app_id.to_owned(), secret.expose_secret().to_owned());
        let held = self.0.read().unwrap();
        let (header, until) = held.get(&key).unwrap();
        assert!(Instant::now() < *until);
        header.clone()
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Run by `cargo test`, it only shows that it still does.
    let usual = if arguments.iter().any(|argument| argument == "--bench") { 1_000_000 } else { 1_000 };
    let customers = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(usual);
    let names: Vec<_> = (0..customers)
        .map(|number| {
            let secret = SecretString::from(format!("{number:08}-Zk3uYw5nTq8rVx2pLm6sHj9dFg4bNc7e"));
            (format!("app-{number:08}"), secret)
        })
        .collect();

    let before = resident();
    let exchange = Exchange::builder("https://as.example")
        .token_url("https://as.example/token")
        .transport(Arc::new(AtOnce))
        // Its shards fill unevenly, the more so the fewer the customers.
        .capacity(customers + customers / 8 + 1_000)
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let begun = Instant::now();
    runtime.block_on(async {
        for (app_id, secret) in &names {
            exchange.token(app_id, secret, None).await.unwrap();
        }
    });
    let held = exchange.status().customers;
    println!("{held} customers after {:.1} s", begun.elapsed().as_secs_f64());
    let each = (resident() - before) as f64 / held as f64;
    println!(
        "exchange: {each:.0} resident bytes for each, {:.0} beside the token's text",
        each - TEXT as f64
    );

    let before = resident();
    let naive = Naive(RwLock::default());
    for (app_id, secret) in &names {
        use secrecy::ExposeSecret;
        let header = HeaderValue::try_from(format!("Bearer {}", "t".repeat(TEXT))).unwrap();
        let key = (app_id.clone(), secret.expose_secret().to_owned());
        naive.0.write().unwrap().insert(key, (header, Instant::now() + Duration::from_secs(86_400)));
    }
    let each = (resident() - before) as f64 / customers as f64;
    println!("naive: {each:.0} resident bytes for each, {:.0} beside the token's text", each - TEXT as f64);

    println!("threads  exchange, ns  naive, ns  (a hit: all customers at random / a thousand of them)");
    for threads in [1, 2, 4] {
        let [far, near] = [names.len(), 1_000.min(names.len())].map(|among| {
            let parts: [&dyn Hit; 2] = [&exchange, &naive];
            parts.map(|part| nanoseconds(part, &names[..among], threads, customers))
        });
        println!("{threads:7}  {:5.0} / {:4.0}  {:5.0} / {:4.0}", far[0], near[0], far[1], near[1]);
    }

    let (hmac, sip) = (hmac(&names), sip(&names));
    println!("hashing of app id and secret: HMAC-SHA-256 {hmac:.0} ns, SipHash-2-4-128 {sip:.0} ns");

    let begun = Instant::now();
    exchange.purge("app-00000007");
    println!("purge of one app id among {customers}: {:.1} ms", begun.elapsed().as_secs_f64() * 1e3);
}

fn hmac(names: &[(String, SecretString)]) -> f64 {
    use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
    use secrecy::ExposeSecret;
    let key = Key::new(HMAC_SHA256, &[7; 32]);
    of_each(names, |app_id, secret| {
        let mut context = Context::with_key(&key);
        context.update(&app_id.len().to_le_bytes());
        context.update(app_id.as_bytes());
        context.update(&secret.expose_secret().len().to_le_bytes());
        context.update(secret.expose_secret().as_bytes());
        black_box(context.sign());
    })
}

fn sip(names: &[(String, SecretString)]) -> f64 {
    use secrecy::ExposeSecret;
    use siphasher::sip128::{Hasher128, SipHasher24};
    use std::hash::Hasher;
    let key = SipHasher24::new_with_key(&[7; 16]);
    of_each(names, |app_id, secret| {
        let mut hasher = key;
        hasher.write(&app_id.len().to_le_bytes());
        hasher.write(app_id.as_bytes());
        hasher.write(&secret.expose_secret().len().to_le_bytes());
        hasher.write(secret.expose_secret().as_bytes());
        black_box(hasher.finish128());
    })
}

fn of_each(names: &[(String, SecretString)], hash: impl Fn(&str, &SecretString)) -> f64 {
    let names = &names[..1_000.min(names.len())];
    let mut best = f64::MAX;
    for _ in 0..200 {
        let begun = Instant::now();
        names.iter().for_each(|(app_id, secret)| hash(app_id, secret));
        best = best.min(begun.elapsed().as_nanos() as f64 / names.len() as f64);
    }
    best
}

/// Of one hit, as a thread sees it: by that one of twenty batches in which the machine had least else to do.
fn nanoseconds(part: &dyn Hit, names: &[(String, SecretString)], threads: usize, hits: usize) -> f64 {
    let batches = |seed: usize| {
        let mut random = fastrand::Rng::with_seed(seed as u64);
        let batch = |_| {
            // They come with a request that was just read.
            let shown: Vec<_> = (0..BATCH).map(|_| names[random.usize(..names.len())].clone()).collect();
            let begun = Instant::now();
            for (app_id, secret) in &shown {
                black_box(part.hit(app_id, secret));
            }
            begun.elapsed().as_nanos() as f64 / BATCH as f64
        };
        (0..hits / threads / BATCH).map(batch).collect::<Vec<_>>()
    };
    let mut all: Vec<f64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|seed| scope.spawn(move || batches(seed))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    all.sort_by(f64::total_cmp);
    all[all.len() / 20]
}

fn resident() -> usize {
    let pages = fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
