//! Comments, and those that are code to some servers.

use super::hint;
use super::lexer::Lexer;

impl Lexer<'_> {
    /// Any comment that begins with a slash.
    pub(super) fn comment(&mut self) {
        let rest = self.sql.get(self.at + 2..).unwrap_or_default();
        let of_mariadb = self.dialect.is_mariadb() && rest.starts_with(b"M!");
        if rest.starts_with(b"!") || of_mariadb {
            let marker = 1 + usize::from(of_mariadb);
            self.at += 2 + marker;
            let digits = rest.get(marker..).unwrap_or_default();
            return self.version_comment(digits, of_mariadb);
        }
        let Some(length) = rest.windows(2).position(|pair| pair == b"*/") else {
            return self.never_ends();
        };
        let inside = rest.get(..length).unwrap_or_default();
        self.at += 2 + length + 2;
        if inside.first() == Some(&b'+') {
            // Quotes of an optimizer hint may hold what ends a comment.
            self.odd |= inside.iter().any(|byte| b"`'\"".contains(byte));
        } else {
            hint::note(inside, &mut self.hints);
        }
    }

    /// A comment that is executed by some servers, after its marker.
    fn version_comment(&mut self, rest: &[u8], of_mariadb: bool) {
        let digits = rest.iter().take(6).take_while(|byte| byte.is_ascii_digit());
        let digits = digits.count();
        if digits < 5 {
            self.executed = true;
            return;
        }
        // Five or six digits are the version. Older ones of MySQL take five.
        self.odd |= digits == 6 && !self.dialect.is_mariadb() && self.dialect.oldest < 90_000;
        let version = rest.iter().take(digits);
        let version = version.fold(0, |sum, &digit| sum * 10 + u32::from(digit - b'0'));
        let runs = |server: u32| {
            // MariaDB takes these for versions of MySQL that it does not follow.
            let foreign = self.dialect.is_mariadb() && (50_700..=99_999).contains(&version);
            version <= server && (!foreign || of_mariadb)
        };
        let (oldest, newest) = (runs(self.dialect.oldest), runs(self.dialect.newest));
        self.odd |= oldest != newest;
        if newest {
            self.executed = true;
            self.at += digits;
        } else {
            self.skip_unexecuted();
        }
    }

    /// Skips the rest of a comment, which may have comments inside that have none.
    fn skip_unexecuted(&mut self) {
        let mut inside = false;
        while let (Some(byte), following) = (self.peek(0), self.peek(1)) {
            match (byte, following) {
                (b'/', Some(b'*')) if !inside => {
                    inside = true;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    self.at += 2;
                    if !inside {
                        return;
                    }
                    inside = false;
                }
                _ => self.at += 1,
            }
        }
        self.never_ends();
    }
}
