//! What strangers say, fit to be shown.

/// Characters of it that are shown.
const SHOWN: usize = 200;

/// The first line that says something, on one line and not too long.
pub(in crate::health) fn first_line(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(bounded(line))
}

/// Without control characters, and cut when long.
pub(in crate::health) fn bounded(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN).map(plain).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_fit_to_be_shown() {
        for (bytes, shown) in [
            (&b""[..], None),
            (b" \n\t\n", None),
            (b"\nfine\nmore", Some("fine")),
            (b"a\x1b[31mb\xff\r\n", Some("a [31mb\u{fffd}")),
        ] {
            assert_eq!(first_line(bytes).as_deref(), shown, "{bytes:?}");
        }
        let long = first_line(&[b'x'; 999]).unwrap();
        assert_eq!(long, format!("{}…", "x".repeat(200)));
    }
}
