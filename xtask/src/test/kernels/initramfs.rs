//! The file system that an emulated machine boots with: a cpio archive (format "newc", see
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of Linux) of our programs and the
//! shared libraries they need.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Where the kernel and the programs expect something to be mounted.
const MOUNT_POINTS: [&str; 5] = ["dev", "proc", "run", "sys", "tmp"];

const FOLDER: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// An archive in the making.
#[derive(Debug, Default)]
pub(super) struct Initramfs {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<PathBuf>,
    libraries: BTreeSet<PathBuf>,
}

impl Initramfs {
    /// One with nothing but folders.
    pub(super) fn new() -> Self {
        let mut archive = Self::default();
        for folder in MOUNT_POINTS {
            archive.folder(Path::new(folder));
        }
        archive
    }

    /// Adds a program at a path, and the libraries that it is linked with where they are here.
    pub(super) fn program(&mut self, at: &str, program: &Path) -> Result<()> {
        self.file(Path::new(at), program)?;
        for library in libraries(program)? {
            if self.libraries.insert(library.clone()) {
                self.file(&library, &library)?;
            }
        }
        Ok(())
    }

    /// Adds a copy of a file at a path.
    pub(super) fn file(&mut self, at: &Path, from: &Path) -> Result<()> {
        let at = at.strip_prefix("/").unwrap_or(at);
        if let Some(folder) = at.parent() {
            self.folder(folder);
        }
        let content =
            fs::read(from).with_context(|| format!("{} cannot be read", from.display()))?;
        self.entry(at, FILE, &content);
        Ok(())
    }

    /// The archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, &[]);
        self.bytes
    }

    fn folder(&mut self, path: &Path) {
        let mut missing: Vec<_> = path
            .ancestors()
            .filter(|folder| !folder.as_os_str().is_empty())
            .map(Path::to_path_buf)
            .collect();
        missing.reverse();
        for folder in missing {
            if self.folders.insert(folder.clone()) {
                self.entry(&folder, FOLDER, &[]);
            }
        }
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        self.entries += 1;
        let name = path.to_string_lossy();
        let fields = [
            self.entries,
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            content.len() as u32,
            0, // device
            0,
            0, // device, for device files
            0,
            name.len() as u32 + 1,
            0, // checksum
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        let length = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(length, 0);
    }
}

/// The shared libraries of a program, and its loader.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd")
        .arg(program)
        .output()
        .context("ldd cannot be started")?;
    ensure!(
        output.status.success(),
        "ldd {}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(paths(&text))
}

fn paths(text: &str) -> Vec<PathBuf> {
    let words = |line: &str| {
        line.split_whitespace()
            .find(|word| word.starts_with('/'))
            .map(PathBuf::from)
    };
    text.lines().filter_map(words).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Initramfs, paths};

    #[test]
    fn libraries_are_read_from_ldd() {
        let text = "\tlinux-vdso.so.1 (0x00007fd379c10000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fd37901e000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fd379c12000)\n";
        assert_eq!(
            paths(text),
            [
                Path::new("/lib/x86_64-linux-gnu/libc.so.6"),
                Path::new("/lib64/ld-linux-x86-64.so.2")
            ]
        );
    }

    #[test]
    fn folders_come_once_and_before_what_is_in_them() {
        let mut archive = Initramfs::new();
        archive.folder(Path::new("a/b"));
        archive.folder(Path::new("a/b/c"));
        let bytes = archive.finish();
        let text = String::from_utf8_lossy(&bytes);
        let positions =
            ["\u{0}a\0", "a\0", "a/b\0", "a/b/c\0", "TRAILER!!!\0"].map(|name| text.find(name));
        assert!(positions[1] < positions[2] && positions[2] < positions[3]);
        assert!(positions[3] < positions[4]);
        assert_eq!(text.matches("a/b\0").count(), 1);
        assert_eq!(bytes.len() % 4, 0);
    }
}
