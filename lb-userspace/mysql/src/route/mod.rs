//! Where a statement goes, and why.
