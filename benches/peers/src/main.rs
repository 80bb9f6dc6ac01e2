//! Evertoken beside its peers. `peers` measures everything, `peers reads` one part; each writes its csv file.

mod alloc;
mod peers;
mod reads;
mod results;
mod server;

use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

#[tokio::main]
async fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    let wants = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    if wants("reads") {
        let table = reads::measure().await;
        table.save();
        println!("{}", table.markdown());
    }
}
