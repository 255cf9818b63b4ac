//! Fragments: `lb.toml.d/*.toml` beside `lb.toml`, read with it as if they were one file.
//!
//! Services may stand in any of them. A single table, such as `[agent]`, stands in one.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue},
};

use super::problem::{Place, Sink, quoted};

/// A part of a config.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source<'a> {
    /// The fragment's name for messages; nothing for the file itself.
    pub(super) name: Option<&'a str>,
    pub(super) bytes: &'a [u8],
}

/// The fragments of a config file, in the order of their names: those that end with `.toml`, in the
/// folder that is named as the file is, and `.d`.
///
/// # Errors
/// When that folder is there, and cannot be read, or has something else than files.
pub fn fragments(file: &Path) -> io::Result<Vec<PathBuf>> {
    let folder = folder(file);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if is_hidden || path.extension().is_none_or(|end| end != "toml") {
            continue;
        }
        // A pipe would be waited for; one that cannot be looked at is told of when it is read.
        if fs::metadata(&path).is_ok_and(|meta| !meta.is_file() && !meta.is_dir()) {
            let reason = format!("{} is no file", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        files.push(path);
    }
    files.sort();
    Ok(files)
}

/// Where the fragments of a config file are.
pub(super) fn folder(file: &Path) -> PathBuf {
    let mut folder = file.as_os_str().to_owned();
    folder.push(".d");
    folder.into()
}

/// Adds a fragment's table to those before it.
pub(super) fn merge<'i>(whole: &mut DeTable<'i>, fragment: DeTable<'i>, sink: &mut Sink) {
    for (key, value) in fragment {
        let Some(before) = whole.get_mut(&**key.get_ref()) else {
            whole.insert(key, value);
            continue;
        };
        let first = before.span().start;
        let at = value.span().start;
        if let (DeValue::Array(list), true) = (before.get_mut(), value.get_ref().is_array()) {
            if let DeValue::Array(more) = value.into_inner() {
                for element in more {
                    list.push(element);
                }
            }
            continue;
        }
        let name = key.get_ref();
        let message = format!(
            "{} is there already, in line {} (a table stands in one of the files, but for \
             [[service]])",
            quoted(name),
            sink.line(first)
        );
        sink.problem(at, &Place::TOP, name, message);
    }
}

/// The same with spans that begin so many bytes later.
pub(super) fn shifted(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    table
        .into_iter()
        .map(|(key, value)| {
            let span = later(key.span(), by);
            (Spanned::new(span, key.into_inner()), shift(value, by))
        })
        .collect()
}

fn shift(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = later(value.span(), by);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(shifted(table, by)),
        DeValue::Array(list) => {
            let mut moved = DeArray::new();
            for element in list {
                moved.push(shift(element, by));
            }
            DeValue::Array(moved)
        }
        plain @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => plain,
    };
    Spanned::new(span, value)
}

const fn later(span: Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::config::{Error, load, load_explained};

    const MAIN: &str = "[agent]\ninterfaces = [\"eth0\"]\n";

    fn service(name: &str, port: u16) -> String {
        format!(
            "[[service]]\nname = \"{name}\"\naddress = \"203.0.113.10\"\nport = {port}\n\
             [[service.backend]]\nname = \"b\"\naddress = \"10.0.0.11\"\n"
        )
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("lb.toml.d")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn problems(folder: &tempfile::TempDir) -> String {
        let file = folder.path().join("lb.toml");
        let Err(Error::Invalid(problems)) = load(&file) else {
            panic!("it is valid");
        };
        let path = folder.path().display().to_string() + "/";
        problems.to_string().replace(&path, "")
    }

    #[test]
    fn services_come_in_the_order_of_names() {
        let folder = folder(&[
            ("lb.toml", &format!("{MAIN}{}", service("main", 1))),
            ("lb.toml.d/20.toml", &service("twenty", 20)),
            (
                "lb.toml.d/10.toml",
                &format!("{}{}", service("ten", 10), service("eleven", 11)),
            ),
            ("lb.toml.d/.hidden.toml", "nonsense"),
            ("lb.toml.d/backup.toml~", "nonsense"),
        ]);
        let file = folder.path().join("lb.toml");
        let loaded = load(&file).unwrap();
        let names: Vec<&str> = loaded.model.services.iter().map(|one| &*one.name).collect();
        assert_eq!(names, ["main", "ten", "eleven", "twenty"]);
        let (_, explained) = load_explained(&file).unwrap();
        let whole = crate::config::parse(explained.as_bytes()).unwrap();
        assert_eq!(whole.model, loaded.model, "explained, it is one file");
    }

    #[test]
    fn a_fragment_may_be_all_there_is() {
        let folder = folder(&[
            ("lb.toml", ""),
            ("lb.toml.d/a.toml", MAIN),
            ("lb.toml.d/b.toml", &service("web", 80)),
        ]);
        assert!(load(&folder.path().join("lb.toml")).is_ok());
    }

    #[test]
    fn problems_name_their_file_and_line() {
        let folder = folder(&[
            (
                "lb.toml",
                &format!("{MAIN}{}weight = 300\n", service("web", 80)),
            ),
            ("lb.toml.d/a.toml", &format!("\n{}", service("web", 80))),
            (
                "lb.toml.d/b.toml",
                &format!("[agent]\nuser = \"x\"\n{}port = 0\n", service("b", 81)),
            ),
        ]);
        assert_eq!(
            problems(&folder),
            "lb.toml:10: service \"web\", backend \"b\": weight 300 is out of range (allowed: 0 to \
             256)\n\
             lb.toml.d/a.toml:3: service \"web\": name \"web\" is taken by the service of line 4 of \
             lb.toml\n\
             lb.toml.d/a.toml:4: service \"web\": address 203.0.113.10, port 80, tcp is taken by \
             the service of line 3 of lb.toml\n\
             lb.toml.d/b.toml:1: \"agent\" is there already, in line 1 of lb.toml (a table stands \
             in one of the files, but for [[service]])\n\
             lb.toml.d/b.toml:10: service \"b\", backend \"b\": port 0 is out of range (allowed: 1 \
             to 65535)"
        );
    }

    #[test]
    fn what_is_no_toml_is_told_for_every_file() {
        let folder = folder(&[("lb.toml", "[agent\n"), ("lb.toml.d/a.toml", "\nx = \n")]);
        fs::write(folder.path().join("lb.toml.d/b.toml"), b"\n\n\xff").unwrap();
        assert_eq!(
            problems(&folder),
            "lb.toml:1: this is not TOML: unclosed table, expected \"]\"\n\
             lb.toml.d/a.toml:2: this is not TOML: no value, or a text without its quotes\n\
             lb.toml.d/b.toml:3: the file is not text in UTF-8: byte 0xff (save it in UTF-8)"
        );
    }

    #[test]
    fn a_fragment_that_cannot_be_read_is_named() {
        let folder = folder(&[("lb.toml", MAIN)]);
        fs::create_dir(folder.path().join("lb.toml.d/a.toml")).unwrap();
        let error = load(&folder.path().join("lb.toml"))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("lb.toml.d/a.toml: it is a directory"),
            "{error}"
        );
    }
}
