//! `http-check expect`: which status codes are a success.

use super::lines::Line;

/// Options before what is expected, each with a word.
const WITH_WORD: &[&str] = &[
    "min-recv",
    "comment",
    "ok-status",
    "error-status",
    "tout-status",
    "on-success",
    "on-error",
    "status-code",
];

/// The codes as our key takes them, where the line is about codes and can be said so.
pub(super) fn codes(line: &Line) -> Option<String> {
    let mut words = line.words.iter().skip(2).map(String::as_str).peekable();
    while words.next_if(|word| WITH_WORD.contains(word)).is_some() {
        words.next();
    }
    let is_not = words.next_if_eq(&"!").is_some();
    let allowed = match (words.next()?, words.next()?, words.next()) {
        ("status", codes, None) => listed(codes)?,
        ("rstatus", pattern, None) => matching(pattern)?,
        _ => return None,
    };
    let wanted = |code: &u16| allowed(*code) != is_not;
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for code in (100..600).filter(wanted) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            Some(_) | None => ranges.push((code, code)),
        }
    }
    let texts = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    let texts: Vec<String> = texts.collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

type Codes = Box<dyn Fn(u16) -> bool>;

/// `200,300-399`
fn listed(text: &str) -> Option<Codes> {
    let code = |text: &str| {
        let number = text.parse::<u16>().ok().filter(|_| text.len() == 3);
        number.filter(|code| (100..600).contains(code))
    };
    let ranges = text.split(',').map(|part| match part.split_once('-') {
        Some((first, last)) => {
            Some(code(first)?..=code(last)?).filter(|range| range.start() <= range.end())
        }
        None => code(part).map(|code| code..=code),
    });
    let ranges: Vec<_> = ranges.collect::<Option<_>>()?;
    Some(Box::new(move |code| {
        ranges.iter().any(|range| range.contains(&code))
    }))
}

/// Those patterns that people write: a first digit or some of them, then any two digits.
fn matching(pattern: &str) -> Option<Codes> {
    let is_anchored = pattern.starts_with('^');
    let text = pattern.strip_prefix('^').unwrap_or(pattern);
    let (first, rest) = match text.strip_prefix(['[', '(']) {
        Some(inner) => inner.split_once([']', ')'])?,
        None => text.split_at_checked(1)?,
    };
    let digits: Vec<u16> = match first.as_bytes() {
        [from @ b'1'..=b'5', b'-', to @ b'1'..=b'5'] => (*from..=*to).collect::<Vec<u8>>(),
        many => many.iter().copied().filter(|byte| *byte != b'|').collect(),
    }
    .into_iter()
    .map(|byte| matches!(byte, b'1'..=b'5').then(|| u16::from(byte - b'0')))
    .collect::<Option<_>>()?;
    let two = ["[0-9]", ".", "\\d", "d"].map(|one| one.repeat(2));
    let rest = rest.strip_suffix('$').unwrap_or(rest);
    let is_any = two.iter().any(|any| any == rest)
        || ["[0-9]{2}", "\\d{2}", "d{2}"].contains(&rest)
        || (is_anchored && matches!(rest, "" | ".*") && !pattern.ends_with('$'));
    (is_any && !digits.is_empty())
        .then(|| Box::new(move |code: u16| digits.contains(&(code / 100))) as Codes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_haproxy_takes() {
        for (text, expected) in [
            ("status 200", Some("200")),
            ("status 200,204,300-399", Some("200,204,300-399")),
            ("! status 500-599", Some("100-499")),
            ("! status 404", Some("100-403,405-599")),
            ("comment up status 200", Some("200")),
            ("on-error down min-recv 3 status 200", Some("200")),
            ("rstatus ^2", Some("200-299")),
            ("rstatus [23][0-9][0-9]", Some("200-399")),
            ("rstatus (2|3)..", Some("200-399")),
            ("rstatus ^[2-4][0-9]{2}$", Some("200-499")),
            ("! rstatus ^5", Some("100-499")),
            // A backslash is gone when it comes here, unless it was quoted.
            ("rstatus ^2dd$", Some("200-299")),
            ("rstatus ^20", None),
            ("rstatus ^2$", None),
            ("rstatus 2", None),
            ("rstatus .*", None),
            ("rstatus [^5]..", None),
            ("status 20", None),
            ("status 300-200", None),
            ("status", None),
            ("string OK", None),
            ("! string maintenance", None),
            ("header name x-up", None),
            ("! status 100-599", None),
            ("", None),
        ] {
            let words = format!("http-check expect {text}");
            let words = words.split_whitespace().map(str::to_owned).collect();
            let line = Line { number: 1, words };
            assert_eq!(codes(&line).as_deref(), expected, "{text}");
        }
    }
}
