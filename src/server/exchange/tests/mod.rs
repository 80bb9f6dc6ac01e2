//! To the second, by a clock that stands still in between.

mod apart;
mod fairness;
mod lives;
mod scripted;
