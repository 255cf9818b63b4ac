//! Files with prefixes, one on each line: deny lists as they are passed around.

use std::{
    collections::HashMap,
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    model::{Model, Prefix},
    plain,
    problem::{Problem, quoted},
    rules::{bare_prefix, parse_prefix},
};

/// A larger file is no list of prefixes.
const LARGEST: u64 = 64 << 20;
/// Lines that are refused one by one; of more it is said how many.
const MOST_PROBLEMS: usize = 1000;

/// What stands in files, by their names.
pub(super) type PrefixLists = HashMap<PathBuf, Arc<[Prefix]>>;

/// The prefixes in a file, and every line that is none.
///
/// # Errors
/// With the end of a sentence, when it cannot be read.
pub(super) fn read(file: &Path) -> Result<(Vec<Prefix>, Vec<Problem>), String> {
    let unreadable = |error: std::io::Error| format!("cannot be read: {}", plain(&error));
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(unreadable)?;
    opened
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("is larger than {} MiB", LARGEST >> 20));
    }
    Ok(parse(&file.display().to_string(), &bytes))
}

/// Adds what stands in files to the lists that name them.
pub(super) fn fill(model: &mut Model, known: &PrefixLists) {
    let host = &mut model.firewall;
    let services = model
        .services
        .iter_mut()
        .map(|service| &mut service.firewall);
    let services = services.flat_map(|access| [&mut access.deny, &mut access.allow]);
    for lists in [&mut host.deny, &mut host.allow]
        .into_iter()
        .chain(services)
    {
        let files = lists.files.iter().filter_map(|file| known.get(file));
        lists.listed = Arc::new(files.flat_map(|list| list.iter().copied()).collect());
    }
}

fn parse(file: &str, bytes: &[u8]) -> (Vec<Prefix>, Vec<Problem>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut list = Vec::new();
    let mut wrong = Vec::new();
    let mut more = 0_usize;
    for (number, line) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let end = line.iter().position(|byte| matches!(byte, b'#' | b';'));
        let text = String::from_utf8_lossy(&line[..end.unwrap_or(line.len())]);
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        match prefix(text) {
            Ok(prefix) => list.push(prefix),
            Err(_) if wrong.len() == MOST_PROBLEMS => more += 1,
            Err(reason) => wrong.push(Problem {
                file: Some(file.to_owned()),
                line: number,
                path: String::new(),
                message: format!("{} {reason}", quoted(text)),
            }),
        }
    }
    if let Some(last) = wrong.last_mut().filter(|_| more > 0) {
        last.message
            .push_str(&format!(", and {more} more lines are none"));
    }
    (list, wrong)
}

/// One of them; the end of a sentence if it is none.
pub(super) fn prefix(text: &str) -> Result<Prefix, String> {
    let Some(prefix) = parse_prefix(text) else {
        return Err(
            "is not a prefix (write 172.16.0.0/16, 2001:db8::/32 or one address)".to_owned(),
        );
    };
    bare_prefix(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> (Vec<String>, Vec<String>) {
        let (list, wrong) = parse("deny.txt", text);
        let wrong = wrong.into_iter().map(|problem| {
            assert_eq!(problem.file.as_deref(), Some("deny.txt"));
            format!("{}: {}", problem.line, problem.message)
        });
        (
            list.iter().map(ToString::to_string).collect(),
            wrong.collect(),
        )
    }

    #[test]
    fn lists_are_read_as_they_are_passed_around() {
        let (list, wrong) = read(
            b"\xef\xbb\xbf# a list\n198.51.100.0/24\r\n\n  192.0.2.7 # a neighbour\n\
              203.0.113.0/24 ; SBL1\n2001:db8::/32\n::1\n0.0.0.0/0",
        );
        assert_eq!(wrong, [""; 0]);
        let expected = [
            "198.51.100.0/24",
            "192.0.2.7/32",
            "203.0.113.0/24",
            "2001:db8::/32",
            "::1/128",
            "0.0.0.0/0",
        ];
        assert_eq!(list, expected);
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let (list, wrong) = read(
            b"192.0.2.1\nexample.org\n192.0.2.1/33\n192.0.2.1/24\n::ffff:192.0.2.1\n\
              192.0.2.1 192.0.2.2\n\xff\xfe\n1.2.3\n-1\n10.0.0.0/+8\n192.0.2.2\n",
        );
        assert_eq!(list, ["192.0.2.1/32", "192.0.2.2/32"]);
        assert_eq!(wrong.len(), 9, "{wrong:?}");
        assert!(
            wrong[0].starts_with("2: \"example.org\" is not a prefix"),
            "{wrong:?}"
        );
        assert!(wrong[2].contains("192.0.2.0/24"), "{wrong:?}");
        assert!(wrong[3].contains("IPv4"), "{wrong:?}");
        assert!(wrong[8].starts_with("10: "), "{wrong:?}");
    }

    #[test]
    fn garbage_is_refused_in_bounded_words() {
        let (list, wrong) = read("not a prefix\n".repeat(5000).as_bytes());
        assert!(list.is_empty());
        assert_eq!(wrong.len(), MOST_PROBLEMS);
        assert!(wrong[MOST_PROBLEMS - 1].ends_with("and 4000 more lines are none"));
        let (_, wrong) = read(&[b'x'; 1 << 20]);
        assert!(wrong[0].len() < 300, "{}", wrong[0]);
        let (list, _) = read(&[0; 4096]);
        assert!(list.is_empty());
    }
}
