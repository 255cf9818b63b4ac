//! What packet rows, scenarios and benchmarks share.

pub mod bench;
pub mod cgroup;
pub mod database;
pub mod decap;
pub mod guest;
pub mod intercept;
pub mod kernel;
pub mod rows;
pub mod scenario;
pub mod watched;
