//! Debian's kernels, unpacked and never installed, for `cargo xtask test kernels` to boot in an
//! emulator. Where the sources of packages do not offer one, the tests go on without it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lb_toolchain::{tools_dir, workspace_root};

use super::packages;
use crate::console;
use crate::root;

/// The releases that are looked for, from old to new.
pub(crate) const SERIES: [&str; 4] = ["5.10", "5.15", "6.1", "6.12"];

/// Builds of one release, the smallest first: those for clouds leave out drivers and nothing else
/// that matters here.
const FLAVOURS: [&str; 2] = ["-cloud-amd64", "-amd64"];

/// What stands in a folder instead of an image when there is none to be had.
const NOT_OFFERED: &str = "not-offered";

/// An unpacked kernel.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    /// Such as "6.1".
    pub(crate) series: &'static str,
    /// To boot.
    pub(crate) kernel: PathBuf,
    /// The module of veth devices, uncompressed.
    pub(crate) veth: PathBuf,
}

/// The kernels that are there.
pub(crate) fn images() -> Vec<Image> {
    SERIES.into_iter().filter_map(image).collect()
}

fn image(series: &'static str) -> Option<Image> {
    let folder = folder(series);
    let image = Image {
        series,
        kernel: folder.join("vmlinuz"),
        veth: folder.join("veth.ko"),
    };
    (image.kernel.is_file() && image.veth.is_file()).then_some(image)
}

/// Where a kernel is unpacked to.
fn folder(series: &str) -> PathBuf {
    tools_dir(&workspace_root()).join("kernels").join(series)
}

/// The releases that nobody has looked for yet, where they can be had at all: Debian's kernels for
/// x86-64 come by apt-get.
pub(super) fn unknown() -> Vec<&'static str> {
    if packages::find("apt-get").is_none() || !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    let is_unknown = |series: &&'static str| {
        image(series).is_none() && !folder(series).join(NOT_OFFERED).exists()
    };
    SERIES.into_iter().filter(is_unknown).collect()
}

/// What there is, in words.
pub(super) fn describe() -> String {
    let there: Vec<_> = images().iter().map(|image| image.series).collect();
    let absent: Vec<_> = SERIES
        .into_iter()
        .filter(|series| !there.contains(series))
        .collect();
    match (there.is_empty(), absent.is_empty()) {
        (true, _) => "none, their tests are skipped".to_owned(),
        (false, true) => there.join(", "),
        (false, false) => format!("{} (not offered: {})", there.join(", "), absent.join(", ")),
    }
}

/// Fetches and unpacks kernels; one that cannot be had only means fewer tests.
pub(super) fn install(list: &[&'static str]) {
    for series in list {
        let result = provide(series).or_else(|error| {
            if !root::is_root() {
                return Err(error);
            }
            // Lists older than the mirror name files that are no longer there.
            packages::update_lists()?;
            provide(series)
        });
        if let Err(error) = result {
            console::failed(format!("Linux {series} for tests: {error:#}"));
        }
    }
}

fn provide(series: &str) -> Result<()> {
    packages::update_lists_if_missing()?;
    let folder = folder(series);
    let Some(package) = newest(&search(series)?, series) else {
        fs::create_dir_all(&folder)?;
        File::create(folder.join(NOT_OFFERED))?;
        console::present(
            format!("Linux {series} for tests"),
            "not offered by this machine's sources, left out",
        );
        return Ok(());
    };
    let began = Instant::now();
    // A set-up that was stopped half-way leaves no image.
    let partial = folder.with_extension("partial");
    let result = fetch(&package, &partial, &folder);
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    result?;
    console::done(format!("unpacked {package}"), began);
    Ok(())
}

fn search(series: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}\\.", series.replace('.', "\\."));
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", &pattern])
        .output()
        .context("apt-cache cannot be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The newest package of a release in a list of `name - description`.
fn newest(list: &str, series: &str) -> Option<String> {
    let prefix = format!("linux-image-{series}.");
    let names = || {
        list.lines()
            .filter_map(|line| line.split_whitespace().next())
    };
    FLAVOURS.iter().find_map(|flavour| {
        let versions = names().filter_map(|name| {
            let version = name.strip_prefix(&prefix)?.strip_suffix(flavour)?;
            // Of other flavours, for example `-rt`, the version would have letters after a dash.
            let is_plain = version
                .split('-')
                .skip(1)
                .all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
            is_plain.then(|| (numbers(version), name.to_owned()))
        });
        versions.max().map(|(_, name)| name)
    })
}

fn numbers(version: &str) -> Vec<u64> {
    version
        .split(|character: char| !character.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn fetch(package: &str, partial: &Path, folder: &Path) -> Result<()> {
    if partial.exists() {
        fs::remove_dir_all(partial)?;
    }
    fs::create_dir_all(partial)?;
    let mut download = Command::new("apt-get");
    download
        .args(["-o", "APT::Sandbox::User=", "download", package])
        .current_dir(partial);
    console::run_long(&format!("download of {package}"), &mut download)?;
    let archive =
        find(partial, &|name| name.ends_with(".deb")).context("nothing was downloaded")?;
    let tree = partial.join("tree");
    let mut unpack = Command::new("dpkg");
    unpack.arg("-x").arg(&archive).arg(&tree);
    console::run_long(&format!("unpacking {package}"), &mut unpack)?;
    let kernel = find(&tree.join("boot"), &|name| name.starts_with("vmlinuz-"))
        .context("the package holds no kernel")?;
    let veth = find(&tree, &|name| name == "veth.ko" || name == "veth.ko.xz")
        .context("the package holds no module veth")?;
    let image = partial.join("image");
    fs::create_dir(&image)?;
    fs::rename(&kernel, image.join("vmlinuz"))?;
    if veth.extension().is_some_and(|extension| extension == "xz") {
        let status = Command::new("xz")
            .args(["--decompress", "--stdout"])
            .arg(&veth)
            .stdout(Stdio::from(File::create(image.join("veth.ko"))?))
            .status()
            .context("xz cannot be started")?;
        ensure!(status.success(), "xz ended with {status}");
    } else {
        fs::rename(&veth, image.join("veth.ko"))?;
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    Ok(fs::rename(&image, folder)?)
}

/// The first file below a folder whose name is right.
fn find(folder: &Path, is_right: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let path = entry.path();
        if entry.file_type().ok()?.is_dir() {
            find(&path, is_right)
        } else {
            is_right(&entry.file_name().to_string_lossy()).then_some(path)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn the_newest_plain_build_is_taken() {
        let list = "linux-image-6.1.0-9-cloud-amd64 - x\n\
                    linux-image-6.1.0-56-cloud-amd64-unsigned - x\n\
                    linux-image-6.1.0-56-cloud-amd64-dbg - x\n\
                    linux-image-6.1.0-47-cloud-amd64 - x\n\
                    linux-image-6.1.0-60-amd64 - x\n\
                    linux-image-6.12.9+deb12-cloud-amd64 - x\n";
        let found = |series| newest(list, series);
        assert_eq!(
            found("6.1").as_deref(),
            Some("linux-image-6.1.0-47-cloud-amd64")
        );
        assert_eq!(
            found("6.12").as_deref(),
            Some("linux-image-6.12.9+deb12-cloud-amd64")
        );
        assert_eq!(found("5.10"), None);
        let others = "linux-image-6.1.0-60-rt-amd64 - x\nlinux-image-6.1.0-7-amd64 - x\n";
        assert_eq!(
            newest(others, "6.1").as_deref(),
            Some("linux-image-6.1.0-7-amd64")
        );
    }
}
