//! The example gateway under wrk: without credentials, with each kind of them, and with the authorization server away.
//! Gateway, upstream and wrk share the machine's cores.

use axum::Router;
use evertoken::testing::{AuthServer, Signing};
use rustix::time::{ClockId, clock_gettime};
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::gateway::{Config, Gateway};

const SECONDS: u32 = 5;

pub async fn measure() -> Vec<Vec<String>> {
    let header = ["what", "us_of_CPU_a_request", "ratio", "requests_a_second", "p50_ms", "p99_ms", "failed"];
    let mut table = vec![header.map(str::to_owned).to_vec()];
    let server = AuthServer::builder().signing(Signing::Rs256).start().await.unwrap();
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", upstream.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(upstream, Router::new().fallback(async || "fine")).await });
    let config = Config {
        issuer: server.issuer(),
        audience: server.audience(),
        upstream: base,
        listen: "127.0.0.1:0".into(),
        admin: "127.0.0.1:0".into(),
        anonymous: true,
        ..Config::default()
    };
    let gateway = Gateway::start(config).await.unwrap();
    let url = format!("http://{}/orders", gateway.address);
    let bearer = format!(
        "Authorization: Bearer {}",
        server.sign(serde_json::json!({}), serde_json::json!({})).unwrap()
    );
    let basic = "Authorization: Basic YXBwOnNlY3JldA==".to_owned();
    wrk(&url, None, 3).await;
    for header in [&bearer, &basic] {
        wrk(&url, Some(header), 1).await;
    }
    // Each is measured three times in turn, and the median counts: the machine has others to serve.
    let cases = [
        ("without credentials, nothing to verify", None),
        ("a bearer token", Some(&bearer)),
        ("app id and secret, exchanged", Some(&basic)),
    ];
    let mut rounds: Vec<Vec<Load>> = (0..=cases.len()).map(|_| Vec::new()).collect();
    for _ in 0..3 {
        for ((_, header), rounds) in cases.iter().zip(&mut rounds) {
            rounds.push(wrk(&url, header.map(String::as_str), SECONDS).await);
        }
        server.outage();
        rounds[cases.len()].push(wrk(&url, Some(&basic), SECONDS).await);
        server.recover().await.unwrap();
    }
    let names = cases.iter().map(|(name, _)| *name).chain(["the same, the authorization server away"]);
    let mut all = 0.0;
    for (name, mut rounds) in names.zip(rounds) {
        rounds.sort_by(|one, other| one.cpu.total_cmp(&other.cpu));
        let load = &rounds[1];
        if all == 0.0 {
            all = load.cpu;
        }
        table.push(vec![
            name.to_owned(),
            format!("{:.0}", load.cpu),
            format!("{:.2}", load.cpu / all),
            format!("{:.0}", load.rate),
            format!("{:.2}", load.p50),
            format!("{:.2}", load.p99),
            format!("{}", load.failed),
        ]);
    }
    gateway.stop().await.unwrap();
    table
}

struct Load {
    /// Of this process, gateway and upstream, in microseconds for each request: others use the machine as well.
    cpu: f64,
    rate: f64,
    p50: f64,
    p99: f64,
    failed: u64,
}

fn spent() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

async fn wrk(url: &str, header: Option<&str>, seconds: u32) -> Load {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c32", "--latency", &format!("-d{seconds}s")]);
    if let Some(header) = header {
        command.args(["-H", header]);
    }
    let before = spent();
    let output = command.arg(url).output().await.expect("wrk must be installed: `make wrk`");
    let spent = spent() - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let word = |line: &str| {
        let line = text
            .lines()
            .find(|at| at.trim_start().starts_with(line))
            .unwrap_or_else(|| panic!("{line}: {text}"));
        line.split_whitespace().last().unwrap().to_owned()
    };
    let milliseconds = |text: String| {
        let units = [("us", 0.001), ("ms", 1.0), ("s", 1000.0)];
        let (number, factor) =
            units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor))).unwrap();
        number.parse::<f64>().unwrap() * factor
    };
    let failed = text.lines().find_map(|line| line.trim().strip_prefix("Non-2xx or 3xx responses: "));
    let requests = text.lines().find_map(|line| line.trim().split_once(" requests in"));
    let requests: f64 = requests.unwrap().0.parse().unwrap();
    Load {
        cpu: spent / requests,
        rate: word("Requests/sec:").parse().unwrap(),
        p50: milliseconds(word("50%")),
        p99: milliseconds(word("99%")),
        failed: failed.map_or(0, |failed| failed.parse().unwrap()),
    }
}
