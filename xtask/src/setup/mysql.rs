//! Oracle's MySQL for tests: server, client and Router. No release of Debian has them, so they come
//! from its unstable branch, by the mirror that this machine already uses. They are unpacked into
//! the project's folder of tools together with every library that they need, and never installed.
//! Where there are none to be had, the tests go on without.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use lb_toolchain::{tools_dir, workspace_root};

use super::packages;
use crate::console;

/// What is unpacked, besides all that it depends on.
const PACKAGES: [&str; 3] = ["mysql-server-core", "mysql-client-core", "mysql-router"];

/// Only their scripts want these, and nobody runs them.
const UNWANTED: [&str; 2] = ["perl", "libperl"];

/// What stands in the folder instead of programs where there are none to be had.
const NOT_OFFERED: &str = "not-offered";

/// Seconds that a step of apt-get may take at most.
const PATIENCE: &str = "300";

/// The programs, where they are in the tree, and the options that tell them so. Everything else is
/// for the caller to say; no program reads a file of the machine's.
const PROGRAMS: [(&str, &str, &str); 5] = [
    (
        "mysqld",
        "usr/sbin/mysqld",
        "--no-defaults --lc-messages-dir=\"$root/usr/share/mysql\" \
         --character-sets-dir=\"$root/usr/share/mysql/charsets\" \
         --plugin-dir=\"$root/usr/lib/mysql/plugin\" --secure-file-priv=",
    ),
    ("mysql", "usr/bin/mysql", "--no-defaults"),
    ("mysqldump", "usr/bin/mysqldump", "--no-defaults"),
    ("mysqlslap", "usr/bin/mysqlslap", "--no-defaults"),
    (
        "mysqlrouter",
        "usr/bin/mysqlrouter",
        "--DEFAULT.plugin_folder=\"$root/usr/lib/mysqlrouter/plugin\"",
    ),
];

/// Where the programs are, or would be.
fn folder() -> PathBuf {
    tools_dir(&workspace_root()).join("mysql")
}

fn is_there() -> bool {
    folder().join("bin/mysqld").is_file()
}

/// Whether nobody has looked for it yet, where it can be had at all: by apt-get.
pub(super) fn is_unknown() -> bool {
    packages::find("apt-get").is_some() && !is_there() && !folder().join(NOT_OFFERED).exists()
}

/// What there is, in words.
pub(super) fn describe() -> String {
    if !is_there() {
        return "none, their tests are skipped".to_owned();
    }
    let version = fs::read_to_string(folder().join("version"));
    version.unwrap_or_default().trim().to_owned()
}

/// Fetches and unpacks it; where that fails, there are only fewer tests.
pub(super) fn install() {
    if let Err(error) = provide() {
        console::failed(format!("MySQL for tests: {error:#}"));
    }
}

fn provide() -> Result<()> {
    let folder = folder();
    packages::update_lists_if_missing()?;
    let Some(mirror) = mirror(&targets()?) else {
        fs::create_dir_all(&folder)?;
        File::create(folder.join(NOT_OFFERED))?;
        console::present("MySQL for tests", "no mirror of Debian is in use, left out");
        return Ok(());
    };
    let began = Instant::now();
    // A set-up that was stopped half-way leaves no programs.
    let partial = folder.with_extension("partial");
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    let result = fetch(&mirror, &partial).and_then(|version| {
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::rename(partial.join("tree"), &folder)?;
        Ok(version)
    });
    if partial.exists() {
        fs::remove_dir_all(&partial)?;
    }
    console::done(format!("unpacked MySQL {}", result?), began);
    Ok(())
}

/// The lists of packages that this machine uses, one per line.
fn targets() -> Result<String> {
    let format = "$(SITE) $(ORIGIN) $(LABEL)";
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages"])
        .output()
        .context("apt-get cannot be started")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The address of Debian's own archive, as opposed to that of its security team or of others.
fn mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let site = words.next()?;
        (words.next()? == "Debian" && words.next()? == "Debian" && words.next().is_none())
            .then(|| site.to_owned())
    })
}

/// Leaves a complete tree below `partial`, and gives its version.
fn fetch(mirror: &str, partial: &Path) -> Result<String> {
    for name in ["lists/partial", "cache/archives/partial", "tree"] {
        fs::create_dir_all(partial.join(name))?;
    }
    // Nothing counts as installed, so that every library comes along.
    fs::write(partial.join("status"), "")?;
    let keys = ["pgp", "gpg"]
        .map(|end| PathBuf::from(format!("/usr/share/keyrings/debian-archive-keyring.{end}")));
    let signed = keys.iter().find(|file| file.is_file());
    let signed = signed.map_or_else(String::new, |file| {
        format!("[signed-by={}] ", file.display())
    });
    let source = format!("deb {signed}{mirror} sid main\n");
    fs::write(partial.join("sid.list"), source)?;
    let mut update = apt_get(partial);
    console::run_long("list of Debian's unstable packages", update.arg("update"))?;
    let mut download = apt_get(partial);
    download.args(["install", "-y", "--download-only"]);
    console::run_long("download of MySQL", download.args(PACKAGES))?;
    let tree = partial.join("tree");
    let version = unpack(&partial.join("cache/archives"), &tree.join("root"))?;
    fs::write(tree.join("version"), format!("{version}\n"))?;
    fs::create_dir(tree.join("bin"))?;
    for (name, program, options) in PROGRAMS {
        ensure!(
            tree.join("root").join(program).is_file(),
            "the packages hold no {program}"
        );
        let file = tree.join("bin").join(name);
        fs::write(&file, wrapper(program, options))?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
    }
    Ok(version)
}

/// apt-get with a state of its own: the machine's is neither read nor changed.
fn apt_get(partial: &Path) -> Command {
    let mut command = Command::new("timeout");
    command.args([PATIENCE, "apt-get"]);
    let option = |name: &str, file: &str| {
        let mut option = OsString::from(format!("{name}="));
        option.push(partial.join(file));
        option
    };
    for (name, file) in [
        ("Dir::Etc::sourcelist", "sid.list"),
        ("Dir::State::lists", "lists"),
        ("Dir::State::status", "status"),
        ("Dir::Cache", "cache"),
    ] {
        command.arg("-o").arg(option(name, file));
    }
    for option in [
        "Dir::Etc::sourceparts=/dev/null",
        "Dir::Etc::preferencesparts=/dev/null",
        "APT::Sandbox::User=",
        "APT::Install-Recommends=false",
        "Debug::NoLocking=true",
        // Mirrors that are updated by hand are past their date now and then.
        "Acquire::Check-Valid-Until=false",
        "Acquire::Languages=none",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=30",
        "Acquire::https::Timeout=30",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// Unpacks what was downloaded, and gives the version of the server.
fn unpack(archives: &Path, root: &Path) -> Result<String> {
    let began = Instant::now();
    let mut version = None;
    for entry in fs::read_dir(archives)? {
        let archive = entry?.path();
        let name = archive.file_name().unwrap_or_default().to_string_lossy();
        let mut parts = name.split('_');
        let (package, number) = (parts.next().unwrap_or_default(), parts.next());
        let is_unwanted = UNWANTED.iter().any(|start| package.starts_with(start));
        if !name.ends_with(".deb") || is_unwanted {
            continue;
        }
        if package == PACKAGES[0] {
            version = number.map(str::to_owned);
        }
        let status = Command::new("dpkg")
            .arg("-x")
            .arg(&archive)
            .arg(root)
            .status()
            .context("dpkg cannot be started")?;
        ensure!(status.success(), "dpkg -x {name} ended with {status}");
    }
    let documents = root.join("usr/share/doc");
    if documents.exists() {
        fs::remove_dir_all(documents)?;
    }
    console::done("unpacking of MySQL and its libraries", began);
    version.context("no server was downloaded")
}

/// A script that runs a program with the tree's own loader and libraries, wherever the tree is. It
/// becomes the program, so that its process number is that of the program.
fn wrapper(program: &str, options: &str) -> String {
    let mut text = String::from(
        "#!/bin/sh\n# Made by `cargo xtask setup` of lb.\n\
         root=$(dirname \"$(dirname \"$(readlink -f \"$0\")\")\")/root\n\
         for loader in \"$root\"/usr/lib/*/ld-linux*.so.*; do :; done\n\
         own=$(dirname \"$loader\")\n\
         path=$own:$root/usr/lib/mysql/private:$root/usr/lib/mysql-router\n",
    );
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "exec \"$loader\" --library-path \"$path\" \"$root/{program}\" {options} \"$@\""
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_debian_s_own_archive() {
        let list = "https://packages.example/apt cloud cloud\n\
                    http://mirror.example/debian-security Debian Debian-Security\n\
                    http://mirror.example/backports Debian Debian Backports\n\
                    http://mirror.example/debian Debian Debian\n";
        assert_eq!(
            mirror(list).as_deref(),
            Some("http://mirror.example/debian")
        );
        let others = "http://mirror.example/ubuntu Ubuntu Ubuntu\n";
        assert_eq!(mirror(others), None);
        // Without its list apt does not know whose a source is.
        assert_eq!(mirror("http://x.example/debian $(ORIGIN) $(LABEL)\n"), None);
    }

    #[test]
    fn a_wrapper_is_a_shell_script_that_becomes_the_program() -> Result<()> {
        for (_, program, options) in PROGRAMS {
            let checked = Command::new("sh")
                .args(["-n", "-c", &wrapper(program, options)])
                .status()?;
            assert!(checked.success(), "{program}");
        }
        Ok(())
    }
}
