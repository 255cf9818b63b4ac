//! A lexer of MySQL's and MariaDB's SQL, and what kind of statement a text is.
