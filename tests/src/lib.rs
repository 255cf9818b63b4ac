//! What packet rows, scenarios and benchmarks share.

pub mod kernel;
