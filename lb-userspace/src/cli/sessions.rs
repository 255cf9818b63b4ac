//! Who is logged in to this host by SSH, and must not be cut off.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fs::{self, File},
    io::Read as _,
    net::IpAddr,
    os::unix::ffi::OsStringExt as _,
    path::Path,
};

/// What sshd tells the shells that it starts, and nobody before he is logged in.
const VARIABLE: &str = "SSH_CONNECTION";
/// Of a process's environment.
const LARGEST: u64 = 256 << 10;
/// Processes that are looked at.
const MOST: usize = 65_536;

/// Who sits at the other end of this terminal.
pub(super) fn own() -> Option<IpAddr> {
    client(&env::var(VARIABLE).ok()?)
}

/// Everybody, by the environments of processes that this one may read: `sudo` takes the variable away.
pub(super) fn all() -> Vec<IpAddr> {
    let mut clients = of(Path::new("/proc"));
    clients.extend(own());
    clients.into_iter().collect()
}

fn of(processes: &Path) -> BTreeSet<IpAddr> {
    let Ok(entries) = fs::read_dir(processes) else {
        return BTreeSet::new();
    };
    let environments = entries.flatten().take(MOST).filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let mut bytes = Vec::new();
        let file = File::open(entry.path().join("environ")).ok()?;
        file.take(LARGEST).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    });
    environments
        .filter_map(|bytes| {
            let mut variables = bytes.split(|byte| *byte == 0);
            let value = variables.find_map(|one| {
                one.strip_prefix(VARIABLE.as_bytes())?
                    .strip_prefix(b"=")
                    .map(<[u8]>::to_vec)
            })?;
            client(&OsString::from_vec(value).into_string().ok()?)
        })
        .collect()
}

/// The client of an `SSH_CONNECTION`.
fn client(connection: &str) -> Option<IpAddr> {
    let address = connection.split_whitespace().next()?;
    // A link-local one has its interface behind it.
    let address: IpAddr = address.split('%').next()?.parse().ok()?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_found_in_environments() {
        let folder = tempfile::tempdir().unwrap();
        for (process, environment) in [
            ("1", &b"PATH=/bin\0"[..]),
            (
                "20",
                b"HOME=/\0SSH_CONNECTION=198.51.100.7 50000 192.0.2.10 22\0TERM=x\0",
            ),
            ("21", b"SSH_CONNECTION=fe80::1%eth0 50000 fe80::2 22"),
            ("22", b"SSH_CONNECTION=::ffff:198.51.100.7 1 ::1 22\0"),
            ("23", b"SSH_CONNECTION=\xff\xfe\0SSH_CONNECTION=192.0.2.1\0"),
            (
                "24",
                b"XSSH_CONNECTION=192.0.2.2 1 2 3\0SSH_CONNECTIONS=192.0.2.3\0",
            ),
            ("self", b"SSH_CONNECTION=192.0.2.4 1 2 3\0"),
        ] {
            let place = folder.path().join(process);
            fs::create_dir(&place).unwrap();
            fs::write(place.join("environ"), environment).unwrap();
        }
        fs::create_dir(folder.path().join("25")).unwrap();
        let expected = ["198.51.100.7", "fe80::1"].map(|text| text.parse().unwrap());
        assert_eq!(of(folder.path()), BTreeSet::from(expected));
        assert!(of(&folder.path().join("none")).is_empty());
    }
}
