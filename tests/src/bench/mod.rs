//! `cargo xtask bench`: ratios, both sides in the same run.

pub mod packet;
pub mod template;
