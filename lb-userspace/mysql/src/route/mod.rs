//! Where a statement goes, and why.
//!
//! [`route()`] decides from what is known of the statement ([`crate::sql::classify`]) and of the
//! session ([`Session`]), and has no side effects. When the answer is there, [`Session::after`]
//! brings the session up to date: about transactions and the default schema it believes the
//! server; the text has a say only about what servers do not tell.
//!
//! What is not known to be a read goes to the primary.

mod after;
mod assign;
mod decide;
mod effects;
mod names;
mod pins;
mod prepared;
mod question;
mod reason;
mod remembered;
mod session;

pub use after::{Answer, status};
pub use decide::{Before, Decision, Routines, route};
pub use pins::Pins;
pub use reason::{Reason, Target};
pub use remembered::{Remembered, Setting};
pub use session::{Server, Session};

#[cfg(test)]
mod tests;

#[cfg(test)]
mod session_tests;
