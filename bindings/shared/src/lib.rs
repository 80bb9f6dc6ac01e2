//! What the Python and the Node binding have in common: so far the language that messages are written in. What is special to
//! one of the two languages stays in its binding.

mod language;
mod names;

pub use language::Language;
pub use names::{NAMES, Name};
