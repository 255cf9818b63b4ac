//! What statements are: rows, and properties.

mod properties;
mod rows;
