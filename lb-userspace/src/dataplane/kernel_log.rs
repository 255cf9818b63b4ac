//! What the kernel program has to say, forwarded to the agent's log.
//!
//! The program logs a verdict that is rare and bad when it begins, as two numbers; counters tell how
//! often it happened.

use std::fmt;

use aya::Ebpf;
use aya_log::EbpfLogger;
use lb_common::{abi::LOG_PAUSE_SECONDS, verdict::Verdict};
use nix::net::if_::if_indextoname;
use tokio::{
    io::{Interest, unix::AsyncFd},
    task::AbortHandle,
};

/// Forwards what the program of this object logs, for as long as this process runs or until it is
/// aborted. Without it everything else works, so a failure is only logged.
pub(super) fn forward(ebpf: &mut Ebpf) -> Option<AbortHandle> {
    let logger = match EbpfLogger::init_with_logger(ebpf, Words) {
        Ok(logger) => logger,
        Err(error) => {
            tracing::debug!("the program's log cannot be read: {error}");
            return None;
        }
    };
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    let _entered = runtime.enter();
    // SAFETY: the logger owns its ring buffer's file and gives the same one for as long as it
    // lives, which is as long as the `AsyncFd` that owns it.
    let registered = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) };
    let mut logger = registered.ok()?;
    let forwarding = runtime.spawn(async move {
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    });
    Some(forwarding.abort_handle())
}

/// Makes words of the program's numbers.
struct Words;

impl log::Log for Words {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::warn!("{}", sentence(record.args()));
    }

    fn flush(&self) {}
}

fn sentence(said: &fmt::Arguments<'_>) -> String {
    let said = said.to_string();
    let numbers: Vec<u32> = said
        .split(' ')
        .filter_map(|word| word.parse().ok())
        .collect();
    let verdict = numbers
        .first()
        .and_then(|number| Verdict::ALL.get(*number as usize));
    let (Some(verdict), Some(ifindex)) = (verdict, numbers.get(1)) else {
        return format!("the program says: {said}");
    };
    let interface = if_indextoname(*ifindex)
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| format!("interface {ifindex}"));
    format!(
        "{} on {interface}: {} (counted in `lb status`; said at most every {LOG_PAUSE_SECONDS} s \
         by each CPU)",
        verdict.label(),
        verdict.explanation()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_become_words() {
        let number = Verdict::DropNoNextHop as u8;
        let said = sentence(&format_args!("{number} 1"));
        assert!(said.starts_with("drop_no_next_hop on lo: "), "{said}");
        assert_eq!(sentence(&format_args!("999 1")), "the program says: 999 1");
        assert_eq!(sentence(&format_args!("?")), "the program says: ?");
    }
}
