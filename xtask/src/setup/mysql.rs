//! Oracle's MySQL for tests: server, client and Router. No release of Debian has them, so they come
//! from its unstable branch, by the mirror that this machine already uses. They are unpacked into
//! the project's folder of tools together with every library that they need, and never installed.
//! Where there are none to be had, the tests go on without.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Result;
use lb_toolchain::{tools_dir, workspace_root};

use super::packages;
use super::unpacked::{self, Bundle, Program};
use crate::console;

const BUNDLE: Bundle = Bundle {
    title: "MySQL",
    packages: &["mysql-server-core", "mysql-client-core", "mysql-router"],
    // Only their scripts want these, and nobody runs them.
    unwanted: &["perl", "libperl"],
    libraries: &["usr/lib/mysql/private", "usr/lib/mysql-router"],
    preparation: "",
    // Everything else is for the caller to say; no program reads a file of the machine's.
    programs: &[
        Program {
            name: "mysqld",
            file: "usr/sbin/mysqld",
            options: "--no-defaults --lc-messages-dir=\"$root/usr/share/mysql\" \
                      --character-sets-dir=\"$root/usr/share/mysql/charsets\" \
                      --plugin-dir=\"$root/usr/lib/mysql/plugin\" --secure-file-priv=",
        },
        Program {
            name: "mysql",
            file: "usr/bin/mysql",
            options: "--no-defaults",
        },
        Program {
            name: "mysqldump",
            file: "usr/bin/mysqldump",
            options: "--no-defaults",
        },
        Program {
            name: "mysqlslap",
            file: "usr/bin/mysqlslap",
            options: "--no-defaults",
        },
        Program {
            name: "mysqlrouter",
            file: "usr/bin/mysqlrouter",
            options: "--DEFAULT.plugin_folder=\"$root/usr/lib/mysqlrouter/plugin\"",
        },
    ],
};

/// What stands in the folder instead of programs where there are none to be had.
const NOT_OFFERED: &str = "not-offered";

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
    let Some(mirror) = unpacked::mirror()? else {
        fs::create_dir_all(&folder)?;
        File::create(folder.join(NOT_OFFERED))?;
        console::present("MySQL for tests", "no mirror of Debian is in use, left out");
        return Ok(());
    };
    BUNDLE.unpack(&mirror, "sid", &folder)
}
