//! The token that opens changes to clients of the TCP socket.

use std::path::Path;

use hyper::{HeaderMap, header};
use subtle::ConstantTimeEq as _;

use crate::secret_file::{Error, SecretFile};

const FILE: SecretFile = SecretFile {
    name: "token",
    shortest: 16,
};

/// A secret that a client has to name.
pub(super) struct Token(Vec<u8>);

/// Not the secret itself.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token of a file, without the line end.
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        FILE.read(file).map(Self)
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
    use super::*;

    #[test]
    fn only_the_whole_token_opens() {
        let token = Token(b"0123456789abcdef".to_vec());
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
