//! Which rustc can compile for BPF, and how it gets `core` there.
//!
//! Two ways exist: rustup's component `rust-src`, from which cargo builds `core` itself, and a
//! distribution's package that brings `core` ready-made. Both are detected by what is on disk.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::environment::clean_command;

/// The target of the eBPF programs.
pub const TARGET: &str = "bpfel-unknown-none";

/// The oldest Rust that compiles this workspace, as `major.minor`.
pub const MINIMUM_RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// How a compiler gets `core` for BPF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoreSource {
    /// Cargo builds it from the compiler's `rust-src`.
    RustSrc,
    /// It came ready-made with the compiler.
    Prebuilt,
}

/// A rustc that can compile for BPF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// Absolute path of rustc itself, never of rustup's proxy.
    pub rustc: PathBuf,
    /// The cargo that goes with it, if it has one of its own.
    pub cargo: Option<PathBuf>,
    /// Where `core` comes from.
    pub core: CoreSource,
    /// Its version, as `1.95.0`.
    pub version: String,
    /// Major version of its LLVM.
    pub llvm: u32,
}

impl Compiler {
    /// All usable compilers, the preferred first: rustup's stable, nightly, others, then those of
    /// the distribution.
    #[must_use]
    pub fn candidates() -> Vec<Self> {
        let mut seen = Vec::new();
        let mut found = Vec::new();
        for rustc in rustup_compilers().into_iter().chain(path_compilers()) {
            let Ok(real) = rustc.canonicalize() else {
                continue;
            };
            if !seen.contains(&real) {
                found.extend(Self::inspect(&rustc));
                seen.push(real);
            }
        }
        found
    }

    /// The compiler at this path, if it is new enough and has `core` for BPF.
    fn inspect(rustc: &Path) -> Option<Self> {
        let printed = print(
            rustc,
            &[
                "--print",
                "sysroot",
                "--print",
                "target-libdir",
                "--target",
                TARGET,
            ],
        )?;
        let (sysroot, libdir) = printed.trim().split_once('\n')?;
        let core = core_source(Path::new(sysroot), Path::new(libdir))?;
        let (version, llvm) = parse_versions(&print(rustc, &["-vV"])?)?;
        if !at_least(&version, MINIMUM_RUST) {
            return None;
        }
        let cargo = Some(rustc.with_file_name("cargo")).filter(|cargo| cargo.is_file());
        Some(Self {
            rustc: rustc.to_path_buf(),
            cargo,
            core,
            version,
            llvm,
        })
    }

    /// One line for the person who asks what was found.
    #[must_use]
    pub fn describe(&self) -> String {
        let core = match self.core {
            CoreSource::RustSrc => "core built from rust-src",
            CoreSource::Prebuilt => "core ready-made",
        };
        format!(
            "{} (rustc {}, LLVM {}, {core})",
            self.rustc.display(),
            self.version,
            self.llvm
        )
    }
}

fn core_source(sysroot: &Path, libdir: &Path) -> Option<CoreSource> {
    let is_core = |name: &str| name.starts_with("libcore-") && name.ends_with(".rlib");
    let prebuilt = fs::read_dir(libdir)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_str().is_some_and(is_core));
    if prebuilt {
        return Some(CoreSource::Prebuilt);
    }
    sysroot
        .join("lib/rustlib/src/rust/library/core")
        .is_dir()
        .then_some(CoreSource::RustSrc)
}

/// The compilers that rustup installed. They are looked up on disk, because asking rustup may make
/// it download what it thinks is missing.
fn rustup_compilers() -> Vec<PathBuf> {
    let home = env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")));
    let Some(home) = home else { return Vec::new() };
    let mut toolchains: Vec<PathBuf> = fs::read_dir(home.join("toolchains"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    toolchains.sort_by_key(|path| {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        (
            !name.starts_with("stable-"),
            !name.starts_with("nightly-"),
            name,
        )
    });
    let rustc = |toolchain: PathBuf| toolchain.join("bin/rustc");
    toolchains
        .into_iter()
        .map(rustc)
        .filter(|rustc| rustc.is_file())
        .collect()
}

/// Every rustc on the search path but rustup's proxies, and the distribution's even when the
/// search path hides it.
fn path_compilers() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let is_proxy = |rustc: &Path| {
        rustc.with_file_name("rustup").is_file()
            || rustc
                .canonicalize()
                .is_ok_and(|real| real.ends_with("rustup"))
    };
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|dir| dir.join("rustc"))
        .filter(|rustc| rustc.is_file() && !is_proxy(rustc))
        .collect()
}

fn print(rustc: &Path, arguments: &[&str]) -> Option<String> {
    let output = clean_command(rustc).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Version and LLVM major from the output of `rustc -vV`.
fn parse_versions(text: &str) -> Option<(String, u32)> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let version = field("release: ")?.trim().to_owned();
    let llvm = field("LLVM version: ")?
        .trim()
        .split('.')
        .next()?
        .parse()
        .ok()?;
    Some((version, llvm))
}

/// Whether version `have` is `want` or later, by major and minor.
fn at_least(have: &str, want: &str) -> bool {
    let parts = |version: &str| {
        let mut numbers = version
            .split(['.', '-'])
            .map(|part| part.parse::<u32>().unwrap_or(0));
        (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    };
    parts(have) >= parts(want)
}

#[cfg(test)]
mod tests {
    use super::{at_least, parse_versions};

    #[test]
    fn versions_are_read_from_rustc() {
        let text = "rustc 1.96.0\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(parse_versions(text), Some(("1.96.0".to_owned(), 22)));
        assert_eq!(parse_versions("release: 1.96.0\n"), None);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(at_least("1.100.0", "1.95"));
        assert!(at_least("1.95.0-nightly", "1.95"));
        assert!(!at_least("1.85.0", "1.95"));
    }
}
