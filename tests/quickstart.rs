//! Runs the quickstart as the README says, and compares what it prints with what the README shows.
//! What the lines say is compared, not how many there are in a stretch of time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::process::{Command, Stdio};

const README: &str = include_str!("../README.md");
/// As `cargo run --example quickstart` in the README.
const EXAMPLE: [&str; 5] = ["run", "--quiet", "--locked", "--example", "quickstart"];

/// Runs the example with its output in a pipe, through `program`.
fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    // With these it would call a real API.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVERTOKEN_") {
            command.env_remove(name);
        }
    }
    let output = command.output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    told
}

/// A line with `#` for each number, and without the padding between columns and the error's own words.
fn shape(line: &str) -> String {
    let words = line.split_whitespace().map(|word| match word.parse::<f64>() {
        Ok(_) if word != "401" => "#",
        _ => word,
    });
    let line = words.collect::<Vec<_>>().join(" ");
    match line.split_once(": ") {
        Some((before, _)) => format!("{before}: …"),
        None => line,
    }
}

/// The shapes of all lines in the order in which each comes first: on a busy machine a token may be renewed once more
/// in between, or an attempt fail once more.
fn shapes(output: &str) -> Vec<String> {
    let mut shapes = Vec::new();
    for shape in output.lines().map(shape) {
        if !shapes.contains(&shape) {
            shapes.push(shape);
        }
    }
    shapes
}

/// What the README shows.
fn readme() -> &'static str {
    let begin = README.find("An authorization server that issues tokens").expect("the README shows a run");
    README[begin..].split_once("\n```").unwrap().0
}

#[test]
fn readme_shows_one_line_per_event_in_order() {
    let kinds = [
        "token received",
        "renewed",
        "server down",
        "renewal failed",
        "server back",
        "renewed",
        "token revoked",
        "401 recovered",
    ];
    let shapes: Vec<_> = readme().lines().map(shape).collect();
    let events: Vec<_> = shapes.iter().filter_map(|shape| shape.strip_prefix("# s ")).collect();
    assert!(events.len() >= kinds.len(), "{events:#?}");
    for (event, kind) in events.iter().zip(kinds) {
        assert!(event.starts_with(kind), "{event:?} instead of {kind:?}");
    }
}

#[test]
fn without_a_terminal_it_prints_what_the_readme_shows() {
    let output = run(env!("CARGO"), &EXAMPLE);
    assert!(!output.contains(['\r', '\x1b']), "{output:?}");
    assert_eq!(shapes(&output), shapes(readme()), "{output}");
}

/// `script` runs the example on a terminal of its own. Only that of util-linux takes these options.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_the_ticker_overwrites_no_line() {
    let command = format!("'{}' {}", env!("CARGO"), EXAMPLE.join(" "));
    let output = run("script", &["--quiet", "--return", "--command", &command, "/dev/null"]);
    let output = output.replace("\r\n", "\n");
    let is_ticker = |text: &str| text.contains(" calls, 0 failed; token age ");
    assert!(output.split(['\r', '\n']).filter(|text| is_ticker(text)).count() > 1, "{output:?}");
    // What stays on the screen is what was written over the ticker last.
    let screen: Vec<_> = output.lines().map(|line| line.rsplit('\r').next().unwrap()).collect();
    assert!(!screen.iter().any(|line| is_ticker(line)), "{output:?}");
    assert_eq!(shapes(&screen.join("\n")), shapes(readme()), "{screen:#?}");
}
