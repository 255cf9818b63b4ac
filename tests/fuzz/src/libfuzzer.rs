//! Builds the targets for libFuzzer and runs them for a while.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use lb_fuzz::{NAME_OF_TARGET, Target};

/// What `cargo fuzz` asks a nightly compiler for by `-Z sanitizer`, in words that a stable one
/// understands.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
    "-Cdebug-assertions=on",
    "-Coverflow-checks=on",
];

/// The binary of libFuzzer with all targets, built.
pub(crate) struct LibFuzzer {
    binary: PathBuf,
    folder: PathBuf,
}

/// Builds it; nothing where there is no compiler of C++, which is said.
pub(crate) fn build() -> Result<Option<LibFuzzer>> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !starts(Command::new(&compiler).arg("--version")) {
        println!(
            "NOT RUN: libFuzzer is C++, and there is no {}: apt-get install g++",
            compiler.display()
        );
        return Ok(None);
    }
    let host = host()?;
    let folder = target_dir()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // With a target named, the flags are kept from build scripts.
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "lb-fuzz"])
        .args(["--features", "libfuzzer", "--bin", "libfuzzer"])
        .args(["--target", &host, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the targets for libFuzzer did not build");
    }
    let binary = folder.join(&host).join("release/libfuzzer");
    Ok(Some(LibFuzzer { binary, folder }))
}

impl LibFuzzer {
    /// Runs it on a target and its corpus.
    pub(crate) fn run(&self, target: Target, corpus: &Path, seed: u64, seconds: u32) -> Result<()> {
        let folder = self.folder.join(target.name());
        let found = folder.join("corpus");
        fs::create_dir_all(&found)?;
        let output = Command::new(&self.binary)
            .env(NAME_OF_TARGET, target.name())
            .arg(format!("-seed={seed}"))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-max_len=600", "-timeout=20", "-rss_limit_mb=1024"])
            .args(["-verbosity=0", "-print_final_stats=1"])
            .arg(format!("-artifact_prefix={}/", folder.display()))
            // The first folder takes what is found, the second is only read.
            .args([&found, corpus])
            .output()
            .context("libFuzzer could not be started")?;
        let said = String::from_utf8_lossy(&output.stderr);
        for line in said.lines().filter(|line| line.starts_with("stat::")) {
            println!("{line}");
        }
        let name = target.name();
        if !output.status.success() {
            println!("{said}");
            bail!(
                "libFuzzer found something in {name}: it stands in {}; run `cargo run --package \
                 lb-fuzz -- --target {name} FILE`",
                folder.display()
            );
        }
        println!("{name}: {seconds} s of libFuzzer, seed {seed}: fine");
        Ok(())
    }
}

fn starts(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// The target that this program was built for, as rustc names it.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output()?;
    let text = String::from_utf8(output.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not name its host")?.to_owned())
}

/// A folder of its own in the target folder that this program stands in: other flags would build
/// everything anew each time.
fn target_dir() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let tagged = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let top = this.ancestors().find(tagged);
    Ok(top.context("no target folder")?.join("fuzz"))
}
