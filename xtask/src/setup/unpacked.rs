//! Programs from Debian that cannot be installed beside what the machine has: unpacked into the
//! project's folder of tools together with every library that they need.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::packages;
use crate::console;

/// Seconds that a step of apt-get may take at most.
const PATIENCE: &str = "300";

/// What is unpacked together.
pub(super) struct Bundle {
    /// What people call it.
    pub(super) title: &'static str,
    /// The packages, besides all that they depend on; the first gives the version.
    pub(super) packages: &'static [&'static str],
    /// How the names of packages begin that are left out although others depend on them.
    pub(super) unwanted: &'static [&'static str],
    /// Folders of libraries beside the usual one.
    pub(super) libraries: &'static [&'static str],
    /// Lines of shell that come before a program is started.
    pub(super) preparation: &'static str,
    pub(super) programs: &'static [Program],
}

/// A program of a bundle.
pub(super) struct Program {
    /// Its name in the folder `bin`.
    pub(super) name: &'static str,
    /// Where it is in the tree.
    pub(super) file: &'static str,
    /// Options that tell it where the tree is, as `$root`.
    pub(super) options: &'static str,
}

impl Bundle {
    /// Fills `folder` from a release of Debian, as a whole or not at all.
    pub(super) fn unpack(&self, mirror: &str, suite: &str, folder: &Path) -> Result<()> {
        let began = Instant::now();
        // A set-up that was stopped half-way leaves no programs.
        let partial = folder.with_extension("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        let result = self.fetch(mirror, suite, &partial).and_then(|version| {
            if folder.exists() {
                fs::remove_dir_all(folder)?;
            }
            fs::rename(partial.join("tree"), folder)?;
            Ok(version)
        });
        if partial.exists() {
            fs::remove_dir_all(&partial)?;
        }
        console::done(format!("unpacked {} {}", self.title, result?), began);
        Ok(())
    }

    /// Leaves a complete tree below `partial`, and gives its version.
    fn fetch(&self, mirror: &str, suite: &str, partial: &Path) -> Result<String> {
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
        let source = format!("deb {signed}{mirror} {suite} main\n");
        fs::write(partial.join("source.list"), source)?;
        let mut update = apt_get(partial);
        console::run_long(
            &format!("list of packages of Debian's {suite}"),
            update.arg("update"),
        )?;
        let mut download = apt_get(partial);
        download.args(["install", "-y", "--download-only"]);
        console::run_long(
            &format!("download of {}", self.title),
            download.args(self.packages),
        )?;
        let tree = partial.join("tree");
        let version = self.unpack_archives(&partial.join("cache/archives"), &tree.join("root"))?;
        fs::write(tree.join("version"), format!("{version}\n"))?;
        fs::create_dir(tree.join("bin"))?;
        for program in self.programs {
            ensure!(
                tree.join("root").join(program.file).is_file(),
                "the packages hold no {}",
                program.file
            );
            let file = tree.join("bin").join(program.name);
            fs::write(&file, self.wrapper(program))?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        }
        Ok(version)
    }

    /// Unpacks what was downloaded, and gives the version of the first package.
    fn unpack_archives(&self, archives: &Path, root: &Path) -> Result<String> {
        let began = Instant::now();
        let mut version = None;
        for entry in fs::read_dir(archives)? {
            let archive = entry?.path();
            let name = archive.file_name().unwrap_or_default().to_string_lossy();
            let mut parts = name.split('_');
            let (package, number) = (parts.next().unwrap_or_default(), parts.next());
            let is_unwanted = self
                .unwanted
                .iter()
                .any(|start| package.starts_with(*start));
            if !name.ends_with(".deb") || is_unwanted {
                continue;
            }
            if package == self.packages[0] {
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
        console::done(
            format!("unpacking of {} and its libraries", self.title),
            began,
        );
        version.context("nothing was downloaded")
    }

    /// A script that runs a program with the tree's own loader and libraries, wherever the tree is. It
    /// becomes the program, so that its process number is that of the program.
    fn wrapper(&self, program: &Program) -> String {
        // Releases before Debian 13 have the loader and some libraries in /lib.
        let mut text = String::from(
            "#!/bin/sh\n# Made by `cargo xtask setup` of lb.\n\
             root=$(dirname \"$(dirname \"$(readlink -f \"$0\")\")\")/root\n\
             path=\n\
             for folder in \"$root\"/usr/lib/*-linux-gnu* \"$root\"/lib/*-linux-gnu*; do\n  \
               path=$path$folder:\n  \
               for file in \"$folder\"/ld-linux*.so.*; do [ -e \"$file\" ] && loader=$file; done\n\
             done\n\
             path=$path",
        );
        for folder in self.libraries {
            // Writing to a String cannot fail.
            let _ = write!(text, "$root/{folder}:");
        }
        let _ = writeln!(
            text,
            "\n{}exec \"$loader\" --library-path \"$path\" \"$root/{}\" {} \"$@\"",
            self.preparation, program.file, program.options
        );
        text
    }
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

/// The address of Debian's own archive where this machine uses a mirror of it.
pub(super) fn mirror() -> Result<Option<String>> {
    packages::update_lists_if_missing()?;
    Ok(find_mirror(&targets()?))
}

/// The address of Debian's own archive, as opposed to that of its security team or of others.
fn find_mirror(targets: &str) -> Option<String> {
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let site = words.next()?;
        (words.next()? == "Debian" && words.next()? == "Debian" && words.next().is_none())
            .then(|| site.to_owned())
    })
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
        ("Dir::Etc::sourcelist", "source.list"),
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
            find_mirror(list).as_deref(),
            Some("http://mirror.example/debian")
        );
        let others = "http://mirror.example/ubuntu Ubuntu Ubuntu\n";
        assert_eq!(find_mirror(others), None);
        // Without its list apt does not know whose a source is.
        assert_eq!(
            find_mirror("http://x.example/debian $(ORIGIN) $(LABEL)\n"),
            None
        );
    }

    #[test]
    fn a_wrapper_is_a_shell_script_that_becomes_the_program() -> Result<()> {
        let program = Program {
            name: "server",
            file: "usr/sbin/server",
            options: "--share=\"$root/usr/share/server\"",
        };
        let bundle = Bundle {
            title: "a server",
            packages: &["server"],
            unwanted: &[],
            libraries: &["usr/lib/server"],
            preparation: "export SERVER=\"$root\"\n",
            programs: &[],
        };
        let script = bundle.wrapper(&program);
        let checked = Command::new("sh").args(["-n", "-c", &script]).status()?;
        assert!(checked.success(), "{script}");
        Ok(())
    }
}
