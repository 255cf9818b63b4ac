//! The token that opens changes to clients of the TCP socket.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use hyper::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

/// Fewer can be guessed.
const SHORTEST: usize = 16;
/// More do not fit into a head.
const LONGEST: usize = 4096;

/// A secret that a client has to name.
pub(super) struct Token(Vec<u8>);

/// Not the secret itself.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read the token file {file}: {cause}")]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no secret.
    #[error(
        "every user of this host can read the token file {file} (mode {mode:o}): take that away with \
         chmod 0600, and make a new token, as this one is no secret any more"
    )]
    WorldReadable {
        /// The file.
        file: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It can be guessed, or not be sent.
    #[error(
        "the token in {file} has {found}; {SHORTEST} to {LONGEST} printable ASCII characters without \
         spaces are allowed (`openssl rand -hex 32` makes a good one)"
    )]
    NoToken {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
    },
}

impl Token {
    /// The token of a file, without the line end.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        let failed = |cause| Error::Read {
            file: file.to_owned(),
            cause,
        };
        let mut opened = File::open(file).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(Error::WorldReadable {
                file: file.to_owned(),
                mode,
            });
        }
        let mut bytes = Vec::new();
        let limit = LONGEST as u64 + 2;
        opened
            .by_ref()
            .take(limit)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        let token = bytes.trim_ascii();
        let found = if !token.iter().all(u8::is_ascii_graphic) {
            "other characters"
        } else if !(SHORTEST..=LONGEST).contains(&token.len()) {
            &format!("{} characters", token.len())
        } else {
            return Ok(Self(token.to_vec()));
        };
        Err(Error::NoToken {
            file: file.to_owned(),
            found: found.to_owned(),
        })
    }

    /// Whether a request names it. How long that takes depends on the length of what it names, not
    /// on how much of it is right.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut fields = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(field), None) = (fields.next(), fields.next()) else {
            return false;
        };
        let Some((scheme, named)) = field.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(named.trim_ascii().ct_eq(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn read(text: &[u8], mode: u32) -> Result<Token, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        Token::read(&file)
            .map_err(|error| error.to_string().replace(file.to_str().unwrap(), "FILE"))
    }

    #[test]
    fn a_token_is_a_secret_that_can_be_sent() {
        assert_eq!(read(b"0123456789abcdef\n", 0o600).unwrap().0.len(), 16);
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
        let missing = Token::read(Path::new("/nonexistent/token")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read the token file /nonexistent/token: "),
            "{missing}"
        );
    }

    #[test]
    fn only_the_whole_token_opens() {
        let token = read(b"0123456789abcdef", 0o600).unwrap();
        let is_in = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::AUTHORIZATION, field.parse().unwrap());
            }
            token.is_in(&headers)
        };
        assert!(is_in(&["Bearer 0123456789abcdef"]));
        assert!(is_in(&["bearer  0123456789abcdef "]));
        for wrong in [
            &[][..],
            &["Bearer 0123456789abcdee"],
            &["Bearer 0123456789abcde"],
            &["Bearer 0123456789abcdef0"],
            &["Bearer "],
            &["Bearer"],
            &["Basic 0123456789abcdef"],
            &["0123456789abcdef"],
            &["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"],
        ] {
            assert!(!is_in(wrong), "{wrong:?}");
        }
    }
}
