//! What lab scenarios share: the real `lb` as a process, its config and status, servers and
//! clients in namespaces.
//!
//! Scenarios drive the software through its contract only: commands, config, JSON. So nothing here
//! knows types of `lb-userspace` or `lb-common`.

mod agent;
mod binary;
mod client;
mod config;
mod echo;
mod farm;
mod forge;
mod liar;
mod server;
mod status;
mod wire;

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

pub use agent::Agent;
pub use binary::{Outcome, binary, run};
pub use client::{Load, PATIENCE, Session, names, while_loading};
pub use config::{Backend, Check, Config, Service, routed_backends, segment_backends};
pub use echo::{EchoClient, ask_datagram, greeting, upload};
pub use farm::Farm;
pub use forge::forge_syns;
pub use liar::{Liar, Word};
pub use server::Server;
pub use status::{AppHost, Entry, Status};
pub use wire::{checksum_errors, has_xdp, sent_packets};

/// Where the XDP program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// On socket buffers.
    Generic,
}

impl Mode {
    /// The word in config and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// Makes two tests, `native` and `generic`, of each of these functions of a [`Mode`].
#[macro_export]
macro_rules! in_both_modes {
    ($($scenario:ident),+ $(,)?) => { $(
        mod $scenario {
            #[test]
            fn native() -> anyhow::Result<()> {
                super::$scenario($crate::scenario::Mode::Native)
            }

            #[test]
            fn generic() -> anyhow::Result<()> {
                super::$scenario($crate::scenario::Mode::Generic)
            }
        }
    )+ };
}

/// Looks again and again until `look` finds what it wants to see.
///
/// # Errors
/// When the deadline passes, with what the last look said.
pub fn await_until<T>(
    deadline: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if Instant::now() >= end => {
                return Err(error).with_context(|| {
                    format!("waited {} s in vain until {what}", deadline.as_secs_f64())
                });
            }
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Checks that `names` is `cycle` over and over, from its beginning.
///
/// # Errors
/// When it is not, with both.
pub fn expect_cycle(names: &[String], cycle: &[&str]) -> Result<()> {
    let expected = cycle.iter().cycle();
    ensure!(
        names
            .iter()
            .zip(expected)
            .all(|(name, expected)| name == expected),
        "not {} over and over: {}",
        cycle.join(", "),
        names.join(", ")
    );
    Ok(())
}

/// Checks that `names` is `cycle` over and over, from anywhere in it.
///
/// # Errors
/// When it is not, with both.
pub fn expect_rotation(names: &[String], cycle: &[&str]) -> Result<()> {
    let first = names.first().map(String::as_str);
    let start = cycle
        .iter()
        .position(|name| Some(*name) == first)
        .unwrap_or(0);
    let mut turned = cycle.to_vec();
    turned.rotate_left(start);
    expect_cycle(names, &turned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn orders_are_told_apart() {
        assert!(expect_cycle(&names("a b c a b"), &["a", "b", "c"]).is_ok());
        assert!(expect_cycle(&names("b c a b"), &["a", "b", "c"]).is_err());
        assert!(expect_cycle(&names("a b b a"), &["a", "b", "c"]).is_err());
        assert!(expect_rotation(&names("b c a b"), &["a", "b", "c"]).is_ok());
        assert!(expect_rotation(&names("b a c b"), &["a", "b", "c"]).is_err());
        assert!(expect_rotation(&names("d a b c"), &["a", "b", "c"]).is_err());
    }

    #[test]
    fn waiting_ends_with_the_last_word() {
        let mut looks = 0;
        let seen = await_until(Duration::from_secs(5), "it is there", || {
            looks += 1;
            ensure!(looks == 3, "only {looks}");
            Ok(looks)
        });
        assert_eq!(seen.ok(), Some(3));
        let error = await_until(Duration::ZERO, "it is there", || -> Result<()> {
            anyhow::bail!("it is not")
        });
        let said = format!("{:#}", error.unwrap_err());
        assert_eq!(said, "waited 0 s in vain until it is there: it is not");
    }
}
