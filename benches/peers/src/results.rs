//! Where figures go, and come from again: one csv file per table.

use std::fs;
use std::path::PathBuf;

pub struct Table {
    name: String,
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(name: &str, header: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            header: header.iter().map(|&cell| cell.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    pub fn row<const N: usize>(&mut self, row: [String; N]) {
        self.rows.push(row.into());
    }

    pub fn save(&self) {
        let lines = std::iter::once(&self.header).chain(&self.rows);
        let text: String = lines.map(|row| row.join(",") + "\n").collect();
        fs::create_dir_all(folder()).expect("a folder");
        fs::write(file(&format!("{}.csv", self.name)), &text).expect("a file");
        println!("{}\n{text}", self.name);
    }

    pub fn load(name: &str) -> Self {
        let text = fs::read_to_string(file(&format!("{name}.csv"))).expect("measured before");
        let mut rows = text.lines().map(|line| line.split(',').map(str::to_owned).collect());
        Self { name: name.to_owned(), header: rows.next().unwrap_or_default(), rows: rows.collect() }
    }
}

pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../results")
}

pub fn file(name: &str) -> PathBuf {
    folder().join(name)
}

/// Sorts; the first is the least then.
pub fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
