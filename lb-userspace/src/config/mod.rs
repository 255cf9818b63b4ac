//! The config file: read, checked as a whole, and handed on as a [`Model`].
//!
//! A file's bytes become the tables of `raw`, those become a [`Model`] — or every [`Problem`] of
//! the file at once, each with its line.

mod address;
mod explain;
mod files;
mod fragments;
mod json_schema;
pub mod model;
mod prefix_list;
mod problem;
mod raw;
mod reference;
mod rules;
mod schema;
mod suggest;
mod validate;

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub(crate) use self::address::refused_backend;
use self::{
    files::Needed,
    fragments::{Source, merge, shifted},
    prefix_list::PrefixLists,
    problem::{Place, Sink},
    schema::{Field, Located, Reader},
};
pub use self::{
    fragments::fragments,
    json_schema::{as_json, json_schema},
    model::Model,
    problem::{Problem, Problems},
    reference::reference,
};

/// A prefix, or an address as one.
///
/// # Errors
/// With a sentence.
pub fn parsed_prefix(text: &str) -> Result<model::Prefix, String> {
    prefix_list::prefix(text).map_err(|reason| format!("{} {reason}", problem::quoted(text)))
}

/// A larger file is no config: it has room for a million backends.
const LARGEST_FILE: u64 = 512 << 20;

/// One slip, such as a bracket that is never closed, makes all that follows look wrong.
const MOST_SYNTAX_PROBLEMS: usize = 5;

/// A valid config file.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What it means.
    pub model: Model,
    /// What is allowed in it and probably not meant, by line.
    pub warnings: Vec<Problem>,
}

/// Why there is no config.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be read.
    #[error("cannot read the config file {file}: {}", plain(cause))]
    Read {
        /// The file, as the user named it.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is larger than any config.
    #[error("the config file {file} is larger than {} MiB", LARGEST_FILE >> 20)]
    TooLarge {
        /// The file, as the user named it.
        file: PathBuf,
    },
    /// Something is wrong in it.
    #[error("{0}")]
    Invalid(Problems),
}

/// A system error without its number.
fn plain(error: &io::Error) -> String {
    let kind = error.kind();
    if kind == io::ErrorKind::NotFound {
        "there is no such file".to_owned()
    } else if kind == io::ErrorKind::IsADirectory {
        "it is a directory".to_owned()
    } else {
        let words = error.to_string();
        words
            .split(" (os error")
            .next()
            .unwrap_or_default()
            .to_lowercase()
    }
}

/// Reads and checks a config file.
///
/// # Errors
/// When it cannot be read, and with every problem in it.
pub fn load(file: &Path) -> Result<Loaded, Error> {
    load_with(file, &[])
}

/// As [`load`], with other interfaces than those of the file, unless none are given.
///
/// # Errors
/// When it cannot be read, and with every problem in it.
pub fn load_with(file: &Path, interfaces: &[String]) -> Result<Loaded, Error> {
    load_then(file, interfaces, |_, _| ()).map(|(loaded, ())| loaded)
}

/// As [`load`], and the effective config as a file: with every default written out.
///
/// # Errors
/// When it cannot be read, and with every problem in it.
pub fn load_explained(file: &Path) -> Result<(Loaded, String), Error> {
    load_then(file, &[], explain::of_table)
}

fn load_then<T>(
    file: &Path,
    interfaces: &[String],
    then: impl FnOnce(&DeTable<'_>, &Model) -> T,
) -> Result<(Loaded, T), Error> {
    let bytes = bytes_of(file)?;
    let files = fragments(file).map_err(|cause| Error::Read {
        file: fragments::folder(file),
        cause,
    })?;
    let mut more = Vec::with_capacity(files.len());
    for file in files {
        more.push((file.display().to_string(), bytes_of(&file)?));
    }
    let name = file.display().to_string();
    let main = Source {
        name: None,
        bytes: &bytes,
    };
    let fragments = more.iter().map(|(name, bytes)| Source {
        name: Some(name),
        bytes,
    });
    let sources: Vec<Source<'_>> = std::iter::once(main).chain(fragments).collect();
    let mut lists = PrefixLists::new();
    let look = |needed| files::problems(needed, &mut lists);
    let read = read((&name, &sources), interfaces, look, then);
    let invalid = |list| Error::Invalid(Problems { file: name, list });
    let (mut loaded, made) = read.map_err(invalid)?;
    prefix_list::fill(&mut loaded.model, &lists);
    Ok((loaded, made))
}

fn bytes_of(file: &Path) -> Result<Vec<u8>, Error> {
    let failed = |cause| Error::Read {
        file: file.to_owned(),
        cause,
    };
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(failed)?;
    opened
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::TooLarge {
            file: file.to_owned(),
        });
    }
    Ok(bytes)
}

/// Checks the bytes of a config file.
///
/// # Errors
/// With every problem in them, by line.
pub fn parse(bytes: &[u8]) -> Result<Loaded, Vec<Problem>> {
    parse_with(bytes, &[])
}

/// The effective config of a file, with every default written out, as a file that means the same.
///
/// # Errors
/// With every problem in the file, by line.
pub fn explain(bytes: &[u8]) -> Result<String, Vec<Problem>> {
    let main = Source { name: None, bytes };
    let made = read(("", &[main]), &[], |_| Vec::new(), explain::of_table);
    made.map(|(_, text)| text)
}

fn parse_with(bytes: &[u8], interfaces: &[String]) -> Result<Loaded, Vec<Problem>> {
    let main = Source { name: None, bytes };
    let made = read(("", &[main]), interfaces, |_| Vec::new(), |_, _| ());
    made.map(|(loaded, ())| loaded)
}

/// `look` says what is wrong with the files that are named, and `then` makes something of a file
/// that is valid, as it is written.
fn read<T>(
    (name, sources): (&str, &[Source<'_>]),
    interfaces: &[String],
    look: impl FnOnce(Vec<Needed>) -> Vec<Problem>,
    then: impl FnOnce(&DeTable<'_>, &Model) -> T,
) -> Result<(Loaded, T), Vec<Problem>> {
    let mut sink = Sink::new(name);
    let mut whole = DeTable::new();
    let mut wrong = Vec::new();
    let mut base = 0;
    for (index, source) in sources.iter().enumerate() {
        let text = match text_of(source) {
            Ok(text) => text,
            Err(problem) => {
                wrong.push(problem);
                continue;
            }
        };
        sink.add(base, source.name, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        if !errors.is_empty() {
            wrong.extend(no_toml(base, &errors, &mut sink));
        } else if index == 0 {
            whole = table.into_inner();
        } else {
            merge(&mut whole, shifted(table.into_inner(), base), &mut sink);
        }
        base += text.len() + 1;
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut file: raw::File = Reader::read(&whole, 0, Place::TOP, &mut sink);
    if !interfaces.is_empty()
        && let Field::Given(agent) | Field::Default(agent) = &mut file.agent
    {
        replace_interfaces(agent, interfaces);
    }
    let model = validate::validate(&file, &mut sink);
    let wrong_files = look(std::mem::take(&mut sink.needed));
    sink.problems.extend(wrong_files);
    match model.filter(|_| sink.problems.is_empty()) {
        Some(model) => {
            let made = then(&whole, &model);
            let warnings = sorted(sink.warnings);
            Ok((Loaded { model, warnings }, made))
        }
        None => Err(sorted(sink.problems)),
    }
}

fn text_of<'a>(source: &Source<'a>) -> Result<&'a str, Problem> {
    let bytes = source.bytes;
    std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        let message = if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
            "the file is text in UTF-16 (save it in UTF-8)".to_owned()
        } else {
            let odd = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
            format!("the file is not text in UTF-8: byte 0x{odd:02x} (save it in UTF-8)")
        };
        Problem {
            file: source.name.map(str::to_owned),
            line,
            path: String::new(),
            message,
        }
    })
}

/// What the parser says of a text that begins at byte `base`.
fn no_toml(base: usize, errors: &[toml::de::Error], sink: &mut Sink) -> Vec<Problem> {
    let others = std::mem::take(&mut sink.problems);
    for error in errors {
        let at = base + error.span().map_or(0, |span| span.start);
        let message = format!("this is not TOML: {}", sentence(error.message()));
        sink.problem(at, &Place::TOP, "", message);
    }
    let mut problems = sorted(std::mem::replace(&mut sink.problems, others));
    problems.dedup_by_key(|problem| problem.line);
    problems.truncate(MOST_SYNTAX_PROBLEMS);
    problems
}

fn replace_interfaces(agent: &mut Located<raw::Agent>, names: &[String]) {
    let at = agent.at;
    let mut list: Vec<Located<String>> = Vec::new();
    for name in names {
        if !list.iter().any(|known| known.value == *name) {
            let value = name.clone();
            list.push(Located { value, at });
        }
    }
    agent.value.interfaces = Field::Given(Located { value: list, at });
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    problems.dedup();
    problems
}

/// The parser's message on one line, with our quotes, or in words that help more.
fn sentence(message: &str) -> String {
    const BETTER: &[(&str, &str)] = &[
        (
            "string values must be quoted",
            "no value, or a text without its quotes",
        ),
        ("invalid float", "no number (a text needs its quotes)"),
        (
            "missing escaped value",
            "\\ begins an escape (write \\\\ for a backslash, or the text in single quotes)",
        ),
        ("max recursion depth", "nested too deeply"),
        (
            "unexpected leading zero",
            "a number cannot begin with a zero",
        ),
        ("duplicate key", "this key or table is there already"),
        (
            "invalid basic string, expected \"\"\"",
            "a text is not closed (a \" is missing)",
        ),
        (
            "invalid key-value pair, expected key",
            "this is no key (write key = value)",
        ),
        (
            "key with no value",
            "a key has no value (write key = value)",
        ),
    ];
    let message = message.trim().replace('\n', ", ").replace('`', "\"");
    let better = BETTER.iter().find(|(theirs, _)| message.contains(theirs));
    match better {
        Some((_, ours)) => (*ours).to_owned(),
        None => message
            .trim_end_matches(", expected literal string")
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_may_be_others_than_those_of_the_file() {
        let service = "[[service]]\nname = \"web\"\naddress = \"203.0.113.10\"\nport = 80\n\
                       protocol = \"tcp\"\n";
        let names = ["eth1", "eth2", "eth1"].map(str::to_owned);
        for head in ["", "[agent]\n", "[agent]\ninterfaces = [\"eth0\"]\n"] {
            let file = format!("{head}{service}");
            let loaded = parse_with(file.as_bytes(), &names).unwrap();
            assert_eq!(loaded.model.agent.interfaces, ["eth1", "eth2"], "{head}");
        }
        assert!(parse(service.as_bytes()).is_err());
        let wrong = format!("[agent]\ninterfaces = [7]\n{service}");
        assert!(parse_with(wrong.as_bytes(), &names).is_err());
    }
}
