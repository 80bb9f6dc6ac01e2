//! Where figures go: one csv file per table.

use std::path::PathBuf;

pub struct Table {
    name: &'static str,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(name: &'static str, header: &[&str]) -> Self {
        Self { name, header: header.iter().map(|&cell| cell.to_owned()).collect(), rows: Vec::new() }
    }

    pub fn row<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.into());
    }

    pub fn save(&self) {
        let lines = std::iter::once(&self.header).chain(&self.rows);
        let text: String = lines.map(|row| row.join(",") + "\n").collect();
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../results");
        std::fs::create_dir_all(&folder).expect("a folder");
        std::fs::write(folder.join(format!("{}.csv", self.name)), text).expect("a file");
    }

    pub fn markdown(&self) -> String {
        let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
        let rule = format!("|{}\n", "---|".repeat(self.header.len()));
        line(&self.header) + &rule + &self.rows.iter().map(line).collect::<String>()
    }
}

/// Sorts; the first is the least then.
pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
