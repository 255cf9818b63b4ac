//! `[service.firewall]` as it is written.

use std::path::PathBuf;

use super::words::{PREFIX_FILES, PREFIXES};
use crate::config::{
    model::Prefix,
    schema::{Located, optional, table},
};

table! {
    /// Who may use the service, by the source address. Of several prefixes that hold an address the
    /// longest decides, and of two that are the same `allow` does. What is kept out is dropped, also of
    /// connections that were there before. `[firewall]` comes first, and its `dry_run` holds here too.
    /// The balancer's own checks are not asked.
    struct ServiceFirewall = "[service.firewall]"
    keys {
        /// Sources that may not use it.
        deny: Vec<Located<Prefix>> = optional(PREFIXES, Vec::new()),
        /// Files with more of them, as in `[firewall]`.
        deny_files: Vec<Located<PathBuf>> = optional(PREFIX_FILES, Vec::new()),
        /// Sources that may; with this or `allow_files` nobody else.
        allow: Vec<Located<Prefix>> = optional(PREFIXES, Vec::new()),
        /// Files with more of them, as in `[firewall]`.
        allow_files: Vec<Located<PathBuf>> = optional(PREFIX_FILES, Vec::new()),
    }
}
