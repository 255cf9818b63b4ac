//! HAProxy's lines and sections.

/// A line with something on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1.
    pub(super) number: usize,
    /// Its words, without quotes.
    pub(super) words: Vec<String>,
}

impl Line {
    /// The word at that place, or none.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// As a comment shows it.
    pub(super) fn text(&self) -> String {
        self.words.join(" ")
    }
}

/// A section: its head and the lines in it.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) head: Line,
    pub(super) lines: Vec<Line>,
}

/// What begins a section.
const SECTIONS: &[&str] = &[
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "peers",
    "resolvers",
    "userlist",
    "mailers",
    "program",
    "cache",
    "ring",
    "http-errors",
    "log-forward",
    "fcgi-app",
    "crt-store",
    "traces",
    "acme",
    "log-profile",
];

/// The sections of a file, and the lines before the first.
pub(super) fn sections(text: &str) -> (Vec<Line>, Vec<Section>) {
    let (mut stray, mut sections) = (Vec::new(), Vec::<Section>::new());
    for (index, text) in text.lines().enumerate() {
        let words = words(text);
        let Some(first) = words.first() else {
            continue;
        };
        let is_head = SECTIONS.contains(&first.as_str());
        let line = Line {
            number: index + 1,
            words,
        };
        if is_head {
            sections.push(Section {
                head: line,
                lines: Vec::new(),
            });
        } else {
            match sections.last_mut() {
                Some(section) => section.lines.push(line),
                None => stray.push(line),
            }
        }
    }
    (stray, sections)
}

/// The words of a line, up to a comment.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut is_word = false;
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => {
                word.extend(chars.next());
                is_word = true;
            }
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => {
                quote = Some(c);
                is_word = true;
            }
            ('#', None) => break,
            (c, None) if c.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                    is_word = false;
                }
            }
            (c, None) => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// A time in seconds; without a unit it is in milliseconds.
pub(super) fn time(text: &str) -> Option<f64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let number: f64 = digits.parse().ok()?;
    let factor = match unit {
        "us" => 1e-6,
        "" | "ms" => 1e-3,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        _ => return None,
    };
    Some(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_quotes_are_haproxy_s() {
        for (line, expected) in [
            (
                "  server web1 10.0.0.1:80 check # hi",
                vec!["server", "web1", "10.0.0.1:80", "check"],
            ),
            (
                "option httpchk GET / HTTP/1.1\\r\\nHost:\\ a",
                vec!["option", "httpchk", "GET", "/", "HTTP/1.1rnHost: a"],
            ),
            ("a \"b c\" 'd # e' \"\"", vec!["a", "b c", "d # e", ""]),
            ("# all", vec![]),
            ("\"open", vec!["open"]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn times_have_units() {
        for (text, seconds) in [
            ("2000", 2.0),
            ("5s", 5.0),
            ("1m", 60.0),
            ("1h", 3600.0),
            ("100ms", 0.1),
        ] {
            assert_eq!(time(text), Some(seconds), "{text}");
        }
        for text in ["", "s", "5x", "-1", "é"] {
            assert_eq!(time(text), None, "{text}");
        }
    }
}
