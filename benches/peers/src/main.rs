//! Evertoken beside its peers. `peers` measures everything, `peers reads` one part; each writes its csv file. `peers report`
//! makes plots of them, and the tables in the README.

mod alloc;
mod calls;
mod cold;
mod cost;
mod lives;
mod peers;
mod plot;
mod reads;
mod report;
mod results;
mod server;

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::main]
async fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    if wants("reads") {
        reads::measure().await.save();
    }
    if wants("calls") {
        calls::measure().await.save();
    }
    if wants("cold") {
        cold::measure().await.save();
    }
    if wants("spikes") {
        lives::spikes_of_all().await.save();
    }
    if wants("outage") {
        lives::outage_of_all().await.save();
    }
    if wants("build") {
        cost::measure().save();
    }
    if wants("report") {
        plot::all();
        report::write();
    }
}
