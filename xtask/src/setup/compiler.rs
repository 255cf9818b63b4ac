//! A compiler with `core` for BPF, and the LLVM that goes with it.

use std::process::Command;

use anyhow::{Result, bail};
use lb_toolchain::{Compiler, MINIMUM_RUST, Toolchain, supports_llvm, workspace_root};

use super::packages;
use crate::console;

/// The packages that bring a compiler with ready-made `core` for BPF.
const PACKAGES: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// What is there, or what is missing.
pub(super) fn state() -> std::result::Result<String, String> {
    if let Ok(toolchain) = Toolchain::find(&workspace_root()) {
        return Ok(toolchain.compiler.describe());
    }
    let found = candidates().into_iter().next();
    found.map(|compiler| compiler.describe()).ok_or_else(|| {
        "neither rustup's component rust-src nor Debian's package libstd-rust-web-dev-bpf"
            .to_owned()
    })
}

/// The compiler to build with, together with the development files of its LLVM; both installed
/// when they are missing.
pub(super) fn provide() -> Result<Compiler> {
    if candidates().is_empty() {
        install()?;
    }
    let candidates = candidates();
    if let Some(ready) = candidates
        .iter()
        .find(|one| packages::has_llvm_dev(one.llvm))
    {
        return Ok(ready.clone());
    }
    let llvm_of = |compiler: &Compiler| format!("llvm-{}-dev", compiler.llvm);
    let with_llvm = packages::ask_with_new_lists(|| {
        let mut offered = candidates
            .iter()
            .filter(|one| packages::offered(&llvm_of(one)).is_some());
        offered.next().cloned()
    })?;
    if let Some(compiler) = with_llvm {
        packages::install(&[llvm_of(&compiler)])?;
        return Ok(compiler);
    }
    match candidates.first() {
        Some(compiler) => bail!(
            "bpf-linker has to be built with LLVM {0}, that of {1}, but this machine's package \
             sources have no llvm-{0}-dev: add those of apt.llvm.org",
            compiler.llvm,
            compiler.rustc.display()
        ),
        None => bail!("no compiler with `core` for BPF is there although it was just installed"),
    }
}

/// Compilers that a bpf-linker can be built for.
fn candidates() -> Vec<Compiler> {
    Compiler::candidates()
        .into_iter()
        .filter(|compiler| supports_llvm(compiler.llvm))
        .collect()
}

/// Debian's packages where they are offered, else rustup's component.
fn install() -> Result<()> {
    let offered = packages::ask_with_new_lists(|| {
        packages::offered(PACKAGES[1]).filter(|version| is_new_enough(version))
    })?;
    if offered.is_some() {
        return packages::install(&PACKAGES.map(str::to_owned));
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]);
    console::run_long("rustup's component rust-src", &mut rustup).map_err(|error| {
        error.context(
            "a compiler with `core` for BPF is missing: this machine's packages have none, so \
             rustup's component rust-src is needed",
        )
    })
}

/// Whether a package's version is that of a Rust that compiles this workspace.
fn is_new_enough(version: &str) -> bool {
    let parts = |text: &str| -> Option<(u32, u32)> {
        let mut numbers = text.split('.').map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    };
    parts(version) >= parts(MINIMUM_RUST)
}

#[cfg(test)]
mod tests {
    use super::is_new_enough;

    #[test]
    fn debians_versions_are_compared() {
        assert!(is_new_enough("1.96.0+dfsg1-1~deb12u2"));
        assert!(!is_new_enough("1.85.0+dfsg3-1~deb12u3"));
        assert!(!is_new_enough("unknown"));
    }
}
