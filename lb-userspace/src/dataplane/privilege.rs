//! Whether this process on this kernel can steer at all.

use std::fs;

use super::error::Error;

/// Oldest kernel that has everything the program and the agent use. By what came last:
///
/// | since | what |
/// |-------|------|
/// | 5.12 | atomic instructions that return a value (on arm64 in 5.18) |
/// | 5.11 | `bpf_ktime_get_coarse_ns` |
/// | 5.9 | links of XDP programs, detaching them |
/// | 5.8 | ring buffers, frames made longer at their end, `CAP_BPF` |
/// | 5.6 | functions that are verified on their own, batches of elements |
/// | 5.5 | arrays that are mapped into memory |
///
/// 5.15 is the first with long-term support that has them.
const OLDEST_KERNEL: (u32, u32) = (5, 15);

/// Oldest kernel whose verifier `cargo xtask test kernels` shows the programs to.
const OLDEST_TESTED: (u32, u32) = (6, 1);

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// What loading programs needs, and attaching them.
const NEEDED: [(u32, &str); 3] = [
    (CAP_BPF, "CAP_BPF"),
    (CAP_PERFMON, "CAP_PERFMON"),
    (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
];

/// Refuses with a sentence where loading and attaching cannot work.
pub fn check() -> Result<(), Error> {
    check_release(release())?;
    match lacking() {
        Some(missing) => Err(Error::Privilege { missing }),
        None => Ok(()),
    }
}

/// The same for taking connections into the MySQL proxy.
pub fn check_intercept() -> Result<(), Error> {
    check_release(release())?;
    match lacking() {
        Some(missing) => Err(Error::InterceptPrivilege { missing }),
        None => Ok(()),
    }
}

/// What this process lacks, if anything.
fn lacking() -> Option<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing(effective(&status)?);
    (!missing.is_empty()).then(|| missing.join(", "))
}

/// This kernel's release, if it is older than any that the programs are tested on.
pub(super) fn untested() -> Option<String> {
    older_than(OLDEST_TESTED)
}

fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn check_release(release: String) -> Result<(), Error> {
    if version(&release).is_some_and(|found| found < OLDEST_KERNEL) {
        return Err(Error::Kernel { found: release });
    }
    Ok(())
}

/// The kernel's release, if it is older than that.
pub(super) fn older_than(wanted: (u32, u32)) -> Option<String> {
    let release = release();
    let is_older = version(&release).is_some_and(|found| found < wanted);
    is_older.then_some(release)
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn effective(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    NEEDED
        .iter()
        .filter(|&&(capability, _)| {
            !has(capability) && (capability == CAP_NET_ADMIN || !has(CAP_SYS_ADMIN))
        })
        .map(|(_, name)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.4.0"), Some((5, 4)));
        assert!(version("5.4.0") < Some(OLDEST_KERNEL));
        assert!(version("5.15.0-91-generic") >= Some(OLDEST_KERNEL));
        assert_eq!(version("odd"), None);
    }

    #[test]
    fn an_old_kernel_is_told_in_a_sentence() {
        let refused = check_release("5.10.0-30-amd64".into()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this kernel is Linux 5.10.0-30-amd64; steering needs Linux 5.15 or later"
        );
        for fine in ["5.15.0", "6.1.0-56-cloud-amd64", "10.0", "odd"] {
            assert!(check_release(fine.into()).is_ok(), "{fine}");
        }
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert_eq!(missing(0), ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
        assert_eq!(missing(1 << CAP_SYS_ADMIN), ["CAP_NET_ADMIN"]);
        let all = 1 << CAP_BPF | 1 << CAP_PERFMON | 1 << CAP_NET_ADMIN;
        assert!(missing(all).is_empty());
        assert_eq!(
            effective("Name:\tx\nCapEff:\t000001fffeffffff\n"),
            Some(0x1ff_feff_ffff)
        );
    }
}
