//! csv files in `benches/results`, and the tables of them in the project's README, between two marks.

use std::fs;
use std::path::{Path, PathBuf};

const BEGIN: &str = "<!-- written by `make bench-server` -->\n";
const END: &str = "<!-- until here, the API's side -->\n";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn file(name: &str) -> PathBuf {
    root().join(format!("benches/results/{name}.csv"))
}

pub fn save(name: &str, table: &[Vec<String>]) {
    let text: String = table.iter().map(|row| row.join(";") + "\n").collect();
    fs::write(file(name), &text).expect("a file");
    println!("{name}\n{text}");
}

pub fn write() {
    let path = root().join("README.md");
    let text = fs::read_to_string(&path).expect("the README");
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    let verify = table("From a token's text to its caller, ns of CPU", "verify");
    let load = table("The gateway, wrk with 32 connections, all on two cores", "gateway");
    fs::write(path, format!("{before}{BEGIN}\n{}\n{verify}\n{load}\n{END}{after}", versions()))
        .expect("the README");
}

fn table(title: &str, name: &str) -> String {
    let text = fs::read_to_string(file(name)).expect("measured before");
    let mut rows = text.lines().map(|line| line.split(';').map(str::to_owned).collect::<Vec<_>>());
    let header: Vec<String> =
        rows.next().unwrap().iter().skip(1).map(|cell| cell.replace('_', " ")).collect();
    let mut out = format!("| {title} | {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len() + 1));
    rows.for_each(|row| out += &format!("| {} |\n", row.join(" | ")));
    out
}

fn versions() -> String {
    let lock = include_str!("../Cargo.lock");
    let of = |name: &str| {
        let start = format!("name = \"{name}\"\nversion = \"");
        let version = lock.split(&start).last().and_then(|rest| rest.split('"').next());
        format!("{name} {}", version.unwrap_or_default())
    };
    format!(
        "Peers: {} (on jsonwebtoken 9, ring), {} (on jsonwebtoken 10, RustCrypto), {}. Each has its key at hand and checks issuer, \
         audience and expiry.\n",
        of("jwt-authorizer"),
        of("axum-jwt-auth"),
        of("jsonwebtoken")
    )
}
