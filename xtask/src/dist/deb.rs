//! The Debian package, laid out as Debian's policy has it and packed by `dpkg-deb`.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::tree::Tree;
use super::{Contents, architecture, put_documents, source};

const DOCS: &str = "usr/share/doc/lb";

/// Who answers for the package; its changelog and control file need a name.
const MAINTAINER: &str = "The lb authors <lb@localhost>";

/// Makes it, and returns where it is.
pub(super) fn make(contents: &Contents, stage: &Path, out: &Path) -> Result<PathBuf> {
    let (architecture, _) = architecture()?;
    let tree = Tree::new(stage.join("deb"))?;
    put_files(&tree, contents)?;
    put_control(&tree, contents, architecture)?;
    let file = out.join(format!("lb_{}_{architecture}.deb", contents.version));
    let output = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(tree.root())
        .arg(&file)
        .env("SOURCE_DATE_EPOCH", contents.time.to_string())
        // How many pieces are compressed apart shows in the bytes.
        .env("DPKG_DEB_THREADS_MAX", "1")
        .output()
        .context("`dpkg-deb` cannot be started: a Debian package is made on Debian or Ubuntu")?;
    ensure!(
        output.status.success(),
        "`dpkg-deb` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(file)
}

fn packaging(name: &str) -> PathBuf {
    source("lb-userspace/packaging").join(name)
}

fn put_files(tree: &Tree, contents: &Contents) -> Result<()> {
    tree.copy_program(&contents.lb, "usr/bin/lb")?;
    tree.copy(&packaging("lb.toml"), "etc/lb/lb.toml")?;
    tree.copy(
        &packaging("lb.service"),
        "usr/lib/systemd/system/lb.service",
    )?;
    tree.copy(&packaging("sysusers.conf"), "usr/lib/sysusers.d/lb.conf")?;
    let completions = contents.generated.join("completions");
    for (shell, place) in [
        ("bash", "usr/share/bash-completion/completions/lb"),
        ("zsh", "usr/share/zsh/vendor-completions/_lb"),
        ("fish", "usr/share/fish/vendor_completions.d/lb.fish"),
    ] {
        tree.copy(&completions.join(shell), place)?;
    }
    for entry in fs::read_dir(contents.generated.join("man"))? {
        let page = entry?.path();
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        let place = format!("usr/share/man/man1/{name}.gz");
        tree.write(&place, compressed(&fs::read(&page)?)?)?;
    }
    put_documents(tree, contents, DOCS)?;
    tree.copy_all(&packaging("monitoring"), &format!("{DOCS}/monitoring"))?;
    tree.copy(
        &packaging("app-host.conf"),
        &format!("{DOCS}/examples/app-host.conf"),
    )?;
    tree.write(
        &format!("{DOCS}/copyright"),
        format!(
            "{}\n{}\n",
            fs::read_to_string(packaging("deb/copyright"))?.trim_end(),
            indented(&fs::read_to_string(source("LICENSE-MIT"))?)
        ),
    )?;
    let changes = fs::read(source("CHANGELOG.md"))?;
    tree.write(&format!("{DOCS}/changelog.gz"), compressed(&changes)?)
}

fn put_control(tree: &Tree, contents: &Contents, architecture: &str) -> Result<()> {
    let kilobytes: u64 = tree
        .files()?
        .iter()
        .map(|name| Ok(fs::metadata(tree.root().join(name))?.len().div_ceil(1024)))
        .sum::<Result<u64>>()?;
    let fields = fs::read_to_string(packaging("deb/control"))?;
    let control = format!(
        "Package: lb\nVersion: {}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {kilobytes}\n{fields}",
        contents.version
    );
    let sums = sums(tree)?;
    let configs: String = tree
        .files()?
        .iter()
        .filter(|name| name.starts_with("etc"))
        .map(|name| format!("/{}\n", name.display()))
        .collect();
    tree.write("DEBIAN/control", control)?;
    tree.write("DEBIAN/md5sums", sums)?;
    tree.write("DEBIAN/conffiles", configs)?;
    for script in ["postinst", "prerm", "postrm"] {
        let text = fs::read(packaging("deb").join(script))?;
        tree.write_program(&format!("DEBIAN/{script}"), text)?;
    }
    Ok(())
}

/// What dpkg checks files against; those of the administrator are not among them.
fn sums(tree: &Tree) -> Result<String> {
    let mut text = String::new();
    for name in tree.files()?.iter().filter(|name| !name.starts_with("etc")) {
        let output = Command::new("md5sum")
            .current_dir(tree.root())
            .arg(name)
            .output()
            .context("`md5sum` cannot be started")?;
        ensure!(output.status.success(), "`md5sum` failed");
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", String::from_utf8(output.stdout)?);
    }
    Ok(text)
}

/// As policy wants manual pages and changelogs, and without a time inside.
fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .args(["--no-name", "-9"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("`gzip` cannot be started")?;
    let mut input = gzip.stdin.take().context("gzip has no input")?;
    let output = std::thread::scope(|scope| {
        // Beside, because gzip begins to write before it has read everything.
        let writer = scope.spawn(move || input.write_all(bytes));
        let output = gzip.wait_with_output()?;
        writer
            .join()
            .map_err(|_| anyhow::anyhow!("the thread that feeds gzip panicked"))??;
        anyhow::Ok(output)
    })?;
    ensure!(output.status.success(), "`gzip` failed");
    Ok(output.stdout)
}

/// Text as it stands in a field of several lines.
fn indented(text: &str) -> String {
    let line = |line: &str| {
        if line.trim().is_empty() {
            " .".to_owned()
        } else {
            format!(" {line}")
        }
    };
    text.trim_end()
        .lines()
        .map(line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::{compressed, indented};

    #[test]
    fn text_in_a_field_has_no_empty_line() {
        assert_eq!(indented("a\n\n  b\n"), " a\n .\n   b");
    }

    #[test]
    fn much_text_is_compressed_the_same_way_each_time() {
        let text = "lb ".repeat(200_000);
        let once = compressed(text.as_bytes()).unwrap();
        assert_eq!(once, compressed(text.as_bytes()).unwrap());
        assert!(once.len() < text.len() / 10);
    }
}
