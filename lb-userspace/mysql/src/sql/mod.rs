//! A lexer of MySQL's and MariaDB's SQL, and what kind of statement a text is.
//!
//! [`classify`] looks at every word of a text once, allocates nothing, and gives a [`Statement`]:
//! its [`Class`], [`Facts`] about it, and the functions it calls that are not built in. There is no
//! grammar. What is a read is said by the first words and by the *absence* of everything that
//! could make it something else; so a text that no server accepts may be a read, and gets the
//! server's error, but what a server takes for a write never is one.

mod body;
mod class;
mod classify;
mod comment;
mod dialect;
mod facts;
mod functions;
mod hint;
mod keyword;
mod lexer;
mod literal;
mod own_number;
mod parts;
mod scan;
mod set;
mod statement;
mod table;
mod tables;
mod text_prepare;
mod token;
mod verb;

#[cfg(test)]
mod tests;

pub use body::only_reads;
pub use class::Class;
pub use classify::classify;
pub use dialect::{Charset, Dialect, Family, SqlMode};
pub use facts::Facts;
pub use hint::Hint;
pub use keyword::Keyword;
pub use lexer::Lexer;
pub use literal::Literal;
pub use own_number::with_own_number;
pub use parts::{Part, Parts};
pub use set::{Assignment, Assignments, Scope, Variable, is_plain_transaction};
pub use statement::{Call, Statement};
pub use tables::Tables;
pub use text_prepare::{Prepared, prepared_name, prepared_text, used_schema};
pub use token::{Kind, Span, Token};
