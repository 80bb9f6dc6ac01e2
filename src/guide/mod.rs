//! How to do things with this crate that take more than one page of reference. There is no code in here.

#[doc = include_str!("sdk.md")]
pub mod sdk {}
