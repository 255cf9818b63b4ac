//! What keeps two proxies from promoting two servers: a lease that one of them holds at a time, and
//! a record of who the primary is that only its holder changes.

use std::{fmt::Debug, pin::Pin, time::Duration};

/// What takes time, and may not succeed: a sentence then.
pub type Later<'l, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'l>>;

/// A lease that all proxies of a cluster ask for, and the record beside it.
pub trait Lease: Send + Sync + Debug {
    /// Takes it, or goes on holding it: for so long from the return on it is nobody else's.
    fn hold(&self, least: Duration) -> Later<'_, ()>;

    /// Gives it back.
    fn give_back(&self) -> Later<'_, ()>;

    /// The address of the primary by the record, if there is one.
    fn recorded(&self) -> Later<'_, Option<String>>;

    /// Records another address. Only while the lease is held, and only if nobody else has recorded
    /// anything since [`Lease::recorded`].
    fn record(&self, address: String) -> Later<'_, ()>;
}
