//! Builds the target for libFuzzer and runs it for a while.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};

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

/// Runs it on a copy of the corpus.
pub(crate) fn run(corpus: &Path, seed: u64, seconds: u32) -> Result<()> {
    let compiler = env::var_os("CXX").unwrap_or_else(|| "c++".into());
    if !starts(Command::new(&compiler).arg("--version")) {
        println!(
            "NOT RUN: libFuzzer is C++, and there is no {}: apt-get install g++",
            compiler.display()
        );
        return Ok(());
    }
    let host = host()?;
    let target_dir = target_dir()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // With a target named, the flags are kept from build scripts.
    let status = Command::new(cargo)
        .args(["build", "--release", "--package", "lb-fuzz"])
        .args(["--features", "libfuzzer", "--bin", "engine"])
        .args(["--target", &host, "--target-dir"])
        .arg(&target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env_remove("RUSTFLAGS")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .context("cargo could not be started")?;
    if !status.success() {
        bail!("the target for libFuzzer did not build");
    }
    let found = target_dir.join("corpus");
    fs::create_dir_all(&found)?;
    let output = Command::new(target_dir.join(&host).join("release/engine"))
        .arg(format!("-seed={seed}"))
        .arg(format!("-max_total_time={seconds}"))
        .args(["-max_len=600", "-verbosity=0", "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", target_dir.display()))
        // The first folder takes what is found, the second is only read.
        .args([&found, corpus])
        .output()
        .context("the target for libFuzzer could not be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    for line in said.lines().filter(|line| line.starts_with("stat::")) {
        println!("{line}");
    }
    if !output.status.success() {
        println!("{said}");
        bail!(
            "libFuzzer found something: it stands in {}; run `cargo run --package lb-fuzz FILE`",
            target_dir.display()
        );
    }
    println!("{seconds} s of libFuzzer, seed {seed}: fine");
    Ok(())
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
fn target_dir() -> Result<std::path::PathBuf> {
    let this = env::current_exe()?;
    let tagged = |folder: &&Path| folder.join("CACHEDIR.TAG").is_file();
    let top = this.ancestors().find(tagged);
    Ok(top.context("no target folder")?.join("fuzz"))
}
