//! The build itself: package `lb-ebpf` for the BPF target, in a target folder of its own.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::compiler::{Compiler, CoreSource, TARGET};
use crate::environment::{clean_command, remapped_paths};
use crate::error::{Error, Result};
use crate::linker::Linker;
use crate::workspace::{target_dir, workspace_root};

const STEER: &str = "lb-steer";
const DECAP: &str = "lb-decap";
const INTERCEPT: &str = "lb-intercept";
const LAB: &str = "lb-lab";

/// The built eBPF objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objects {
    /// The data path.
    pub steer: PathBuf,
    /// Takes packets out of tunnels on app hosts.
    pub decap: PathBuf,
    /// Takes connections into the MySQL proxy.
    pub intercept: PathBuf,
    /// Small programs for labs and benchmarks.
    pub lab: PathBuf,
}

/// A compiler and the linker that fits it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// The compiler.
    pub compiler: Compiler,
    /// The linker.
    pub linker: Linker,
}

impl Toolchain {
    /// The first usable pair on this machine.
    ///
    /// # Errors
    /// When there is none: the sentence names what is missing and the command that brings it.
    pub fn find(workspace: &Path) -> Result<Self> {
        let missing = |what: &str| {
            Error::new(format!(
                "{what}, so the eBPF programs cannot be built: run `cargo xtask setup`"
            ))
        };
        let Some(linker) = Linker::find(workspace) else {
            return Err(missing("bpf-linker is not installed in this project"));
        };
        let candidates = Compiler::candidates();
        if candidates.is_empty() {
            return Err(missing(
                "no Rust compiler on this machine has `core` for BPF",
            ));
        }
        match candidates
            .into_iter()
            .find(|compiler| linker.fits(compiler.llvm))
        {
            Some(compiler) => Ok(Self { compiler, linker }),
            None => Err(missing(
                "the installed bpf-linker is for another LLVM than the compiler",
            )),
        }
    }
}

/// Builds the eBPF objects of this workspace and puts them into `out_dir`.
///
/// # Errors
/// When the toolchain is missing or the build fails; the compiler's own messages go to stderr.
pub fn build_objects(out_dir: &Path) -> Result<Objects> {
    let workspace = workspace_root();
    let toolchain = Toolchain::find(&workspace)?;
    // A folder of its own: the outer cargo holds the lock of its target folder while this runs.
    let target = target_dir(&workspace, Some(out_dir)).join("ebpf");
    compile(&workspace, &toolchain, &target)?;
    let built = target.join(TARGET).join("release");
    Ok(Objects {
        steer: install(&built.join(STEER), &out_dir.join("lb-steer.o"))?,
        decap: install(&built.join(DECAP), &out_dir.join("lb-decap.o"))?,
        intercept: install(&built.join(INTERCEPT), &out_dir.join("lb-intercept.o"))?,
        lab: install(&built.join(LAB), &out_dir.join("lb-lab.o"))?,
    })
}

fn compile(workspace: &Path, toolchain: &Toolchain, target: &Path) -> Result<()> {
    let Toolchain { compiler, linker } = toolchain;
    let mut cargo = clean_command(cargo_for(compiler));
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--release",
            "--package",
            "lb-ebpf",
            "--bins",
            "--target",
            TARGET,
        ])
        .arg("--target-dir")
        .arg(target)
        .env("RUSTC", &compiler.rustc)
        // aya-ebpf uses inline assembly for BPF, which a stable compiler gives only when told so.
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "CARGO_ENCODED_RUSTFLAGS",
            rust_flags(workspace, compiler, linker)?,
        )
        // The workspace's release profile is for the host: bpf-linker optimises all bitcode as one
        // module anyway, and makes BTF from the debug information.
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_STRIP", "none")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
        // A build script's stdout is read by cargo as instructions.
        .stdout(Stdio::null());
    match compiler.core {
        CoreSource::RustSrc => drop(cargo.args(["-Z", "build-std=core"])),
        CoreSource::Prebuilt => {}
    }
    let status = cargo
        .status()
        .map_err(|error| Error::new(format!("cargo could not be started for lb-ebpf: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "the eBPF programs did not build with {}; the compiler's messages say why",
        compiler.describe()
    )))
}

/// `-Z build-std` wants the cargo of the same release; ready-made `core` works with any.
fn cargo_for(compiler: &Compiler) -> OsString {
    match (&compiler.core, &compiler.cargo) {
        (CoreSource::RustSrc, Some(cargo)) => cargo.into(),
        _ => env::var_os("CARGO").unwrap_or_else(|| "cargo".into()),
    }
}

fn rust_flags(workspace: &Path, compiler: &Compiler, linker: &Linker) -> Result<String> {
    let path = linker.path.to_str().ok_or_else(|| {
        Error::new("the path of this project is not UTF-8, and cargo cannot hand it to rustc")
    })?;
    let mut flags = vec![
        "-Dwarnings".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // v3 has the atomics that return the old value, and 32-bit arithmetic; rustc hands the
        // cpu on to the linker, which generates the code.
        "-Ctarget-cpu=v3".to_owned(),
        format!("-Clinker={path}"),
        "-Clink-arg=--btf".to_owned(),
        // Loops stay loops: unrolled, the program is half as large again, and the verifier walks
        // through as many instructions either way. Both say it, as either may unroll.
        "-Cllvm-args=-unroll-threshold=0".to_owned(),
        "-Clink-arg=--llvm-args=-unroll-threshold=0".to_owned(),
        format!(
            "-Clink-arg=--cpu-features={}",
            Linker::cpu_features(compiler.llvm)
        ),
    ];
    flags.extend(remapped_paths(workspace));
    Ok(flags.join("\u{1f}"))
}

fn install(from: &Path, to: &Path) -> Result<PathBuf> {
    let sentence = |error| {
        Error::new(format!(
            "{} could not be copied to {}: {error}",
            from.display(),
            to.display()
        ))
    };
    fs::copy(from, to).map_err(sentence)?;
    Ok(to.to_path_buf())
}
