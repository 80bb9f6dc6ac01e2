//! To the second, by a clock that stands still in between.

mod apart;
mod fairness;
mod flood;
mod lives;
mod scripted;
mod spellings;
