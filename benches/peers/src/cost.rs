//! What Evertoken adds to a project that has reqwest and tokio already: crates, seconds of a clean build, bytes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::results::Table;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

const BEFORE: &str = r#"
#[tokio::main]
async fn main() {
    let http = reqwest::Client::new();
    let answer = http.get("https://api.example/orders").bearer_auth("token").send().await;
    println!("{:?}", answer.map(|answer| answer.status()));
}
"#;

const AFTER: &str = r#"
#[tokio::main]
async fn main() {
    let api = evertoken::Client::builder("app", "secret")
        .issuer("https://as.example/")
        .base_url("https://api.example/")
        .build()
        .expect("settings");
    println!("{:?}", api.get("orders").send().await.map(|answer| answer.status()));
}
"#;

pub fn measure() -> Table {
    let mut table = Table::new("build", &["project", "crates", "s_of_a_clean_release_build", "MB_stripped"]);
    for (name, dependency, main) in [
        ("reqwest and tokio", String::new(), BEFORE),
        ("… and evertoken", format!("evertoken = {{ path = \"{HERE}/../..\" }}\n"), AFTER),
    ] {
        let folder = std::env::temp_dir().join(format!("evertoken-build-cost-{}", std::process::id()));
        project(&folder, &dependency, main);
        let tree = cargo(&folder, &["tree", "--prefix", "none", "--edges", "normal,build", "--no-dedupe"]);
        let mut crates: Vec<_> = tree.lines().map(|line| line.trim_end_matches(" (*)")).collect();
        crates.sort_unstable();
        crates.dedup();
        cargo(&folder, &["fetch"]);
        let began = Instant::now();
        cargo(&folder, &["build", "--release", "--offline"]);
        let took = began.elapsed().as_secs_f64();
        let size = fs::metadata(folder.join("target/release/cost")).expect("a binary").len();
        table.row([
            name.to_owned(),
            (crates.len() - 1).to_string(),
            format!("{took:.1}"),
            format!("{:.2}", size as f64 / 1e6),
        ]);
        fs::remove_dir_all(folder).expect("it was made above");
    }
    table
}

fn project(folder: &Path, dependency: &str, main: &str) {
    fs::create_dir_all(folder.join("src")).expect("a folder");
    let manifest = format!(
        "[workspace]\n[package]\nname = \"cost\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n{dependency}\
         reqwest = {{ version = \"0.13\", default-features = false, features = [\"http2\", \"json\", \"rustls\"] }}\n\
         tokio = {{ version = \"1\", features = [\"macros\", \"rt-multi-thread\"] }}\n\n[profile.release]\nstrip = true\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest).expect("a file");
    fs::write(folder.join("src/main.rs"), main).expect("a file");
    // The versions that everything else is measured with.
    fs::copy(PathBuf::from(HERE).join("Cargo.lock"), folder.join("Cargo.lock")).expect("a lock file");
}

fn cargo(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("cargo")
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
