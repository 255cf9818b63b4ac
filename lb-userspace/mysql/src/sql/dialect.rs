//! What decides how a text is cut into words: the server's family and version, the session's
//! `sql_mode`, the client's character set.

/// Whose server it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Oracle's.
    MySql,
    /// MariaDB's.
    MariaDb,
}

/// As much of `sql_mode` as the lexer has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SqlMode {
    /// `ANSI_QUOTES`: `"` quotes an identifier.
    pub ansi_quotes: bool,
    /// `NO_BACKSLASH_ESCAPES`: `\` is a character as any other in a string.
    pub no_backslash_escapes: bool,
    /// A mode with another grammar (MariaDB's `ORACLE` and `MSSQL`), or nobody knows which: no
    /// statement is known to be a read.
    pub foreign: bool,
}

impl SqlMode {
    /// A mode that nobody knows.
    pub const UNKNOWN: Self = Self {
        ansi_quotes: false,
        no_backslash_escapes: false,
        foreign: true,
    };

    /// From the value of `@@sql_mode`, or from what was assigned to it.
    #[must_use]
    pub fn from_value(value: &[u8]) -> Self {
        let mut mode = Self::default();
        for name in value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
            // The first stands for a list of modes in both families, the others in MariaDB.
            if ["ansi", "db2", "maxdb", "postgresql"]
                .iter()
                .any(|&n| is(n))
            {
                mode.ansi_quotes = true;
            }
            mode.ansi_quotes |= is("ansi_quotes");
            mode.no_backslash_escapes |= is("no_backslash_escapes");
            // A number is a set of bits, which differ between the families.
            mode.foreign |= is("oracle") || is("mssql") || is("default");
            mode.foreign |= name.iter().any(u8::is_ascii_digit) && !is("db2") && !is_old(name);
        }
        mode
    }
}

fn is_old(name: &[u8]) -> bool {
    [&b"mysql323"[..], b"mysql40"]
        .iter()
        .any(|old| name.eq_ignore_ascii_case(old))
}

/// What bytes above 0x7F mean in the client's character set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charset {
    /// UTF-8: they are parts of words and strings.
    Utf8,
    /// ASCII, and others above it. Outside quotes they may be letters, spaces or controls, so a
    /// statement with such is not known to be a read.
    AsciiAndMore,
    /// The second byte of a character may look like a quote or a backslash (GBK, SJIS, Big5 …), or
    /// ASCII itself means something else (`swe7`), or nobody knows the name: no statement is known
    /// to be a read.
    Unsafe,
}

impl Charset {
    /// From the value of `@@character_set_client`.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Self {
        const ASCII_AND_MORE: [&str; 29] = [
            "ascii", "armscii8", "binary", "cp1250", "cp1251", "cp1256", "cp1257", "cp850",
            "cp852", "cp866", "dec8", "eucjpms", "euckr", "gb2312", "geostd8", "greek", "hebrew",
            "hp8", "keybcs2", "koi8r", "koi8u", "latin1", "latin2", "latin5", "latin7", "macce",
            "macroman", "tis620", "ujis",
        ];
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("utf8mb4") || is("utf8mb3") || is("utf8") {
            Self::Utf8
        } else if ASCII_AND_MORE.iter().any(|&known| is(known)) {
            Self::AsciiAndMore
        } else {
            Self::Unsafe
        }
    }

    /// From the number of a collation, which a client's login names.
    #[must_use]
    pub const fn from_collation(number: u16) -> Self {
        match number {
            33 | 45 | 46 | 76 | 83 | 192..=215 | 223..=247 | 255..=323 => Self::Utf8,
            // big5, sjis, swe7, gbk, ucs2, utf16, utf32, cp932 and gb18030 are missing.
            2..=9
            | 11
            | 12
            | 14..=16
            | 18..=27
            | 29..=32
            | 34
            | 36..=44
            | 47..=53
            | 57..=59
            | 63..=75
            | 77..=81
            | 85
            | 86
            | 89
            | 91..=94
            | 97..=99 => Self::AsciiAndMore,
            _ => Self::Unsafe,
        }
    }
}

/// Everything that decides how a text is cut into words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// Whose servers.
    pub family: Family,
    /// The version of the oldest server, as in version comments: 90704, 101119.
    pub oldest: u32,
    /// The version of the newest server. A version comment that one of them executes and the other
    /// does not leaves the statement to the primary.
    pub newest: u32,
    /// The session's `sql_mode`.
    pub mode: SqlMode,
    /// The session's `character_set_client`.
    pub charset: Charset,
}

impl Dialect {
    /// Servers of one version, the default mode, UTF-8.
    #[must_use]
    pub const fn new(family: Family, version: u32) -> Self {
        Self {
            family,
            oldest: version,
            newest: version,
            mode: SqlMode {
                ansi_quotes: false,
                no_backslash_escapes: false,
                foreign: false,
            },
            charset: Charset::Utf8,
        }
    }

    /// Whether the servers are MariaDB's.
    pub(crate) fn is_mariadb(&self) -> bool {
        self.family == Family::MariaDb
    }

    /// Whether INTERSECT is a word that names nothing, on the oldest of the servers.
    pub(crate) fn has_intersect(&self) -> bool {
        let since = match self.family {
            Family::MySql => 80_031,
            Family::MariaDb => 100_300,
        };
        self.oldest >= since
    }

    /// From the version that a server greets with: `9.7.4`, `5.5.5-10.11.19-MariaDB-log`.
    #[must_use]
    pub fn from_greeting(version: &[u8]) -> Option<Self> {
        let mariadb = version
            .windows(7)
            .any(|part| part.eq_ignore_ascii_case(b"mariadb"));
        let version = version.strip_prefix(b"5.5.5-").unwrap_or(version);
        let mut numbers = version
            .split(|byte| !byte.is_ascii_digit())
            .map(|digits| std::str::from_utf8(digits).ok()?.parse::<u32>().ok());
        let (major, minor) = (numbers.next()??, numbers.next()??);
        let patch = numbers.next().flatten().unwrap_or(0);
        if major > 99 || minor > 99 || patch > 99 {
            return None;
        }
        let family = if mariadb {
            Family::MariaDb
        } else {
            Family::MySql
        };
        Some(Self::new(family, major * 10_000 + minor * 100 + patch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        let plain = SqlMode::from_value(b"ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES");
        assert_eq!(plain, SqlMode::default());
        assert!(SqlMode::from_value(b"PIPES_AS_CONCAT, ansi_quotes").ansi_quotes);
        assert!(SqlMode::from_value(b"ansi").ansi_quotes);
        assert!(SqlMode::from_value(b"NO_BACKSLASH_ESCAPES").no_backslash_escapes);
        assert!(SqlMode::from_value(b"ORACLE").foreign);
        assert!(SqlMode::from_value(b"4").foreign);
        assert!(SqlMode::from_value(b"DEFAULT").foreign);
        assert_eq!(SqlMode::from_value(b""), SqlMode::default());
    }

    #[test]
    fn charsets() {
        assert_eq!(Charset::from_name(b"utf8MB4"), Charset::Utf8);
        assert_eq!(Charset::from_name(b"latin1"), Charset::AsciiAndMore);
        for name in [
            "gbk", "sjis", "big5", "cp932", "gb18030", "swe7", "new", "default",
        ] {
            assert_eq!(
                Charset::from_name(name.as_bytes()),
                Charset::Unsafe,
                "{name}"
            );
        }
        // utf8mb4_0900_ai_ci, latin1_swedish_ci; big5, sjis, swe7, gbk, ucs2, cp932, gb18030.
        assert_eq!(Charset::from_collation(255), Charset::Utf8);
        assert_eq!(Charset::from_collation(8), Charset::AsciiAndMore);
        for number in [0, 1, 13, 10, 28, 35, 95, 248, 1000] {
            assert_eq!(Charset::from_collation(number), Charset::Unsafe, "{number}");
        }
    }

    #[test]
    fn greetings() {
        let of = |text: &[u8]| Dialect::from_greeting(text).map(|d| (d.family, d.newest));
        assert_eq!(of(b"9.7.4"), Some((Family::MySql, 90_704)));
        assert_eq!(
            of(b"8.0.36-0ubuntu0.22.04.1"),
            Some((Family::MySql, 80_036))
        );
        let maria = Some((Family::MariaDb, 101_119));
        assert_eq!(of(b"5.5.5-10.11.19-MariaDB-0+deb12u1"), maria);
        assert_eq!(of(b"10.11.19-MariaDB"), maria);
        assert_eq!(of(b"nonsense"), None);
        assert_eq!(of(b""), None);
    }
}
