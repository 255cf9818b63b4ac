//! `cargo xtask dist`: what people install. A tarball with the static binary, and a Debian package.
//!
//! The same sources give the same bytes: files have the time of `SOURCE_DATE_EPOCH`, or else that of
//! the last commit, owner and order are fixed, and no path of the building machine is in them.

mod binary;
mod deb;
mod licences;
mod tarball;
mod tree;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::console;
use crate::setup::{self, Scope};

use tree::Tree;

/// What goes into every package, from wherever it comes.
struct Contents {
    /// The static binary.
    lb: PathBuf,
    /// Below it: `man/*.1`, `completions/{bash,zsh,fish}`.
    generated: PathBuf,
    /// Licences of the crates inside the binary.
    licences: String,
    version: String,
    /// Seconds since 1970 that all files get.
    time: u64,
}

/// Where packages are put.
pub(crate) fn folder() -> PathBuf {
    lb_toolchain::target_dir(&lb_toolchain::workspace_root(), None).join("dist")
}

/// Builds all packages and says how large they are.
pub(crate) fn run() -> Result<()> {
    setup::run(Scope::Build)?;
    let began = Instant::now();
    let contents = gather()?;
    let out = folder();
    let stage = out.join("stage");
    let made = [
        tarball::make(&contents, &stage, &out)?,
        deb::make(&contents, &stage, &out)?,
    ];
    fs::remove_dir_all(&stage)?;
    write_sums(&out, &made)?;
    println!(
        "  {:>9}  {} (static, with the kernel programs inside)",
        size(&contents.lb)?,
        contents.lb.display()
    );
    for file in &made {
        println!("  {:>9}  {}", size(file)?, file.display());
    }
    console::done("packages", began);
    Ok(())
}

fn gather() -> Result<Contents> {
    let lb = binary::build()?;
    let out = folder();
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    let generated = out.join("stage/generated");
    let completions = generated.join("completions");
    fs::create_dir_all(&completions)?;
    build::run(
        Command::new(&lb)
            .args(["gen-man", "--out"])
            .arg(generated.join("man")),
    )?;
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(&lb).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "`lb completions {shell}` failed");
        fs::write(completions.join(shell), output.stdout)?;
    }
    let said = Command::new(&lb).arg("--version").output()?.stdout;
    let said = String::from_utf8(said)?;
    let version = said.trim().strip_prefix("lb ").context("no version")?;
    Ok(Contents {
        generated,
        licences: licences::collect()?,
        version: version.to_owned(),
        time: time()?,
        lb,
    })
}

/// The name that Debian has for this machine's kind, and the one that others have.
fn architecture() -> Result<(&'static str, &'static str)> {
    match env::consts::ARCH {
        "x86_64" => Ok(("amd64", "x86_64")),
        "aarch64" => Ok(("arm64", "aarch64")),
        other => bail!("packages are made on x86_64 and aarch64, and this is {other}"),
    }
}

fn time() -> Result<u64> {
    if let Ok(text) = env::var("SOURCE_DATE_EPOCH") {
        return text.parse().with_context(|| {
            format!("SOURCE_DATE_EPOCH is {text:?}, not a number of seconds since 1970")
        });
    }
    let output = Command::new("git")
        .current_dir(lb_toolchain::workspace_root())
        .args(["log", "-1", "--format=%ct"])
        .output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let found = text.ok().and_then(|text| text.trim().parse().ok());
    found.context(
        "this is no git checkout, so nothing says what time the files in the packages should \
         have: set SOURCE_DATE_EPOCH to a number of seconds since 1970",
    )
}

fn write_sums(out: &Path, files: &[PathBuf]) -> Result<()> {
    let names = files.iter().filter_map(|file| file.file_name());
    let output = Command::new("sha256sum")
        .current_dir(out)
        .args(names)
        .output()
        .context("`sha256sum` cannot be started")?;
    ensure!(output.status.success(), "`sha256sum` failed");
    fs::write(out.join("SHA256SUMS"), output.stdout)?;
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn size(file: &Path) -> Result<String> {
    let bytes = fs::metadata(file)?.len();
    Ok(format!("{:.1} MB", bytes as f64 / 1e6))
}

/// A file of the project.
fn source(name: &str) -> PathBuf {
    lb_toolchain::workspace_root().join(name)
}

/// Puts what both packages have into a tree: documents below `docs`.
fn put_documents(tree: &Tree, contents: &Contents, docs: &str) -> Result<()> {
    tree.copy(&source("README.md"), &format!("{docs}/README.md"))?;
    tree.copy_all(&source("lb-userspace/docs"), docs)?;
    tree.write(&format!("{docs}/THIRD-PARTY-LICENCES"), &contents.licences)
}
