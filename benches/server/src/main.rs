//! The API's side, measured. `server verify` sets a verification beside its peers, `server gateway` puts load on the example
//! gateway with wrk; each writes its csv file. `server report` makes the tables in the README of them.

#[path = "../../../examples/gateway.rs"]
mod gateway;
mod load;
mod report;
mod verify;

#[tokio::main]
async fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    if wants("verify") {
        report::save("verify", &verify::measure().await);
    }
    if wants("gateway") {
        report::save("gateway", &load::measure().await);
    }
    if wants("report") {
        report::write();
    }
}
