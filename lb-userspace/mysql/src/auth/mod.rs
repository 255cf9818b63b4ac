//! Logins, towards clients and towards servers, as state machines on bytes.
