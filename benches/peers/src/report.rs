//! The tables in the project's README, between two marks.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::results::Table;

const BEGIN: &str = "<!-- written by `make bench` -->\n";
const END: &str = "<!-- until here -->\n";

pub fn write() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = fs::read_to_string(&path).expect("the README");
    let (before, rest) = text.split_once(BEGIN).expect("the mark of the beginning");
    let (_, after) = rest.split_once(END).expect("the mark of the end");
    fs::write(path, format!("{before}{BEGIN}{}{END}{after}", report())).expect("the README");
}

fn report() -> String {
    let (reads, calls, build) = (Table::load("reads"), Table::load("calls"), Table::load("build"));
    let mut text = format!("\n{}\n\n", machine());

    text += "| From a held token to a ready header | ns, 1 thread | 2 threads | 4 | 8 | allocations |\n|---|---|---|---|---|---|\n";
    for row in reads.rows.iter().filter(|row| row[1] == "1") {
        let of = |threads: &str| {
            let same = reads.rows.iter().find(|other| other[0] == row[0] && other[1] == threads);
            same.map_or("", |row| row[2].as_str())
        };
        let cells = [&row[0], of("1"), of("2"), of("4"), of("8"), &row[4]];
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text += &table("A thousand callers, no token yet, endpoint 50 ms", &Table::load("cold"));
    text += &table("Ten lives of 12 s, endpoint 200 ms", &Table::load("spikes"));
    text += &table("The endpoint down for 10 s, tokens of 30 s", &Table::load("outage"));
    text += &table("An API call on loopback", &calls);
    text += &table("Built", &build);
    text + "\n"
}

fn table(title: &str, table: &Table) -> String {
    let header: Vec<_> = table.header.iter().skip(1).map(|cell| cell.replace('_', " ")).collect();
    let mut text = format!("\n| {title} | {} |\n|{}\n", header.join(" | "), "---|".repeat(header.len() + 1));
    for row in &table.rows {
        text += &format!("| {} |\n", row.join(" | "));
    }
    text
}

/// What it was measured on, and the versions of the peers.
fn machine() -> String {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("an unknown processor");
    let model = model.trim_start_matches(['\t', ' ', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let said = |program: &str, argument: &str| {
        let output = Command::new(program).arg(argument).output().expect(program);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let rust = said("rustc", "--version");
    let rust = rust.split(" (").next().unwrap_or_default();
    // Major and minor: what follows is of whoever built it.
    let kernel = said("uname", "-r").splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
    format!(
        "On {model}, {cores} cores, Linux {kernel}, {rust}, {}. Peers: {}.",
        said("date", "+%Y-%m-%d"),
        versions().join(", ")
    )
}

fn versions() -> Vec<String> {
    let lock = include_str!("../Cargo.lock");
    [
        "aliri_tokens",
        "google-cloud-auth",
        "oauth2",
        "gcp_auth",
        "yup-oauth2",
        "azure_identity",
        "cf-gears-toolkit-auth",
        "huskarl",
        "aws-smithy-runtime",
        "reqwest",
    ]
    .iter()
    .map(|name| {
        // The newest, where there are several.
        let start = format!("name = \"{name}\"\nversion = \"");
        let version = lock.split(&start).last().and_then(|rest| rest.split('"').next());
        format!("{name} {}", version.unwrap_or_default())
    })
    .collect()
}
