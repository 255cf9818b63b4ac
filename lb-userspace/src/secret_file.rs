//! Secrets that stand in a file of their own: what opens the API, what balancers share.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// More are a mistake, and would not fit into the head of a request.
const LONGEST: usize = 4096;

/// A kind of secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SecretFile {
    /// What it is called.
    pub(crate) name: &'static str,
    /// Fewer characters can be guessed.
    pub(crate) shortest: usize,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read the {name} file {file}: {cause}")]
    Read {
        /// What it should hold.
        name: &'static str,
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no secret.
    #[error(
        "every user of this host can read the {name} file {file} (mode {mode:o}): take that away with \
         chmod 0600, and make a new {name}, as this one is no secret any more"
    )]
    WorldReadable {
        /// What it holds.
        name: &'static str,
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It can be guessed, or not be sent.
    #[error(
        "the {name} in {file} has {found}; {shortest} to {LONGEST} printable ASCII characters without \
         spaces are allowed (`openssl rand -hex 32` makes a good one)"
    )]
    Unfit {
        /// What it should be.
        name: &'static str,
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
        /// The fewest characters.
        shortest: usize,
    },
}

impl SecretFile {
    /// The secret of a file, without the line end.
    pub(crate) fn read(self, file: &Path) -> Result<Vec<u8>, Error> {
        let Self { name, shortest } = self;
        let failed = |cause| Error::Read {
            name,
            file: file.to_owned(),
            cause,
        };
        let opened = File::open(file).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(Error::WorldReadable {
                name,
                file: file.to_owned(),
                mode,
            });
        }
        let mut bytes = Vec::new();
        let most = LONGEST as u64 + 2;
        opened.take(most).read_to_end(&mut bytes).map_err(failed)?;
        let secret = bytes.trim_ascii();
        let found = if !secret.iter().all(u8::is_ascii_graphic) {
            "other characters".to_owned()
        } else if !(shortest..=LONGEST).contains(&secret.len()) {
            format!("{} characters", secret.len())
        } else {
            return Ok(secret.to_vec());
        };
        Err(Error::Unfit {
            name,
            file: file.to_owned(),
            found,
            shortest,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    const TOKEN: SecretFile = SecretFile {
        name: "token",
        shortest: 16,
    };

    fn read(text: &[u8], mode: u32) -> Result<Vec<u8>, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        TOKEN
            .read(&file)
            .map_err(|error| error.to_string().replace(file.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn a_secret_is_one_that_nobody_else_knows_or_guesses() {
        assert_eq!(
            read(b"0123456789abcdef\n", 0o600).unwrap(),
            b"0123456789abcdef"
        );
        assert!(read(b"0123456789abcdef", 0o640).is_ok());
        assert_eq!(
            read(b"0123456789abcdef", 0o644).unwrap_err(),
            "every user of this host can read the token file FILE (mode 644): take that away with \
             chmod 0600, and make a new token, as this one is no secret any more"
        );
        for (text, found) in [
            (&b""[..], "0 characters"),
            (b"0123456789abcde\n", "15 characters"),
            (b"0123456789 abcdef", "other characters"),
            (&[0xc3; 20], "other characters"),
            (&[b'a'; 5000], "4098 characters"),
        ] {
            let sentence = read(text, 0o600).unwrap_err();
            let expected = format!("the token in FILE has {found}; 16 to 4096 printable");
            assert!(sentence.starts_with(&expected), "{sentence}");
        }
        let missing = TOKEN.read(Path::new("/nonexistent/token")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read the token file /nonexistent/token: "),
            "{missing}"
        );
    }
}
