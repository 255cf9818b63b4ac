//! What is wrong in a config file, and where.

use std::{fmt, path::Path};

use super::files::{Needed, Needs};

/// One thing that is wrong, or worth a warning, in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The fragment it is in, if it is not in the file itself.
    pub file: Option<String>,
    /// Line in the file, from 1.
    pub line: usize,
    /// The key as a path, with indices from 0: `service[1].backend[0].address`.
    pub path: String,
    /// Where in words, what was found and what is allowed.
    pub message: String,
}

impl Problem {
    /// `FILE:LINE`, in a config file of that name or one of its fragments.
    #[must_use]
    pub fn place(&self, file: &str) -> String {
        format!("{}:{}", self.file.as_deref().unwrap_or(file), self.line)
    }
}

/// A line of one of the files of a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From 1.
    pub(super) number: usize,
    /// Where there are several files, whose line it is.
    file: Option<String>,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        match &self.file {
            Some(file) => write!(f, " of {file}"),
            None => Ok(()),
        }
    }
}

/// Every problem of a file, by line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file, as the user named it.
    pub file: String,
    /// At least one.
    pub list: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let place = problem.place(&self.file);
            write!(f, "{separator}{place}: {}", problem.message)?;
        }
        Ok(())
    }
}

/// A table of the file, as a chain up to the top. Words are made only when there is a problem.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    table: &'static str,
    index: Option<usize>,
    name: Option<&'a str>,
}

impl<'a> Place<'a> {
    /// The top of the file.
    pub(super) const TOP: Place<'static> = Place {
        parent: None,
        table: "",
        index: None,
        name: None,
    };

    /// A table such as `[agent]`.
    pub(super) const fn table(&'a self, table: &'static str) -> Place<'a> {
        Place {
            parent: Some(self),
            table,
            index: None,
            name: None,
        }
    }

    /// A table of a list such as `[[service]]`, and the name it has, if it has one.
    pub(super) const fn element(
        &'a self,
        table: &'static str,
        index: usize,
        name: Option<&'a str>,
    ) -> Place<'a> {
        Place {
            parent: Some(self),
            table,
            index: Some(index),
            name,
        }
    }

    fn chain(&self) -> Vec<&Place<'a>> {
        let mut chain: Vec<_> = std::iter::successors(Some(self), |place| place.parent)
            .filter(|place| !place.table.is_empty())
            .collect();
        chain.reverse();
        chain
    }

    fn path(&self, key: &str) -> String {
        let mut parts: Vec<String> = self
            .chain()
            .iter()
            .map(|place| match place.index {
                Some(index) => format!("{}[{index}]", place.table),
                None => place.table.to_owned(),
            })
            .collect();
        if !key.is_empty() {
            parts.push(key.to_owned());
        }
        parts.join(".")
    }

    fn words(&self) -> String {
        let parts: Vec<String> = self
            .chain()
            .iter()
            .map(|place| match (place.name, place.index) {
                (Some(name), _) => format!("{} {}", place.table, quoted(name)),
                (None, Some(index)) => format!("{}[{index}]", place.table),
                (None, None) => place.table.to_owned(),
            })
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("{}: ", parts.join(", "))
        }
    }
}

/// Collects problems and warnings, with their lines.
#[derive(Debug)]
pub(super) struct Sink {
    line_starts: Vec<usize>,
    /// Files by the bytes that they begin at, each behind the one before, and the index of their
    /// first line.
    files: Vec<(usize, Option<String>, usize)>,
    /// The file that the others are fragments of, for messages where there are several.
    main: String,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) needed: Vec<Needed>,
}

impl Sink {
    /// For problems of a config; its texts are added one by one.
    pub(super) fn new(main: &str) -> Self {
        Self {
            line_starts: Vec::new(),
            files: Vec::new(),
            main: main.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
            needed: Vec::new(),
        }
    }

    /// Adds a text that begins at byte `base`, behind those before.
    pub(super) fn add(&mut self, base: usize, file: Option<&str>, text: &str) {
        let first = self.line_starts.len();
        self.files.push((base, file.map(str::to_owned), first));
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        self.line_starts.push(base);
        let starts = ends.map(|(at, _)| base + at + 1);
        self.line_starts.extend(starts);
    }

    /// The fragment of a byte, and its line there.
    fn find(&self, at: usize) -> (Option<&String>, usize) {
        let line = self.line_starts.partition_point(|start| *start <= at);
        let index = self.files.partition_point(|(base, ..)| *base <= at);
        match self.files.get(index.saturating_sub(1)) {
            Some((_, file, first)) => (file.as_ref(), line - first),
            None => (None, line),
        }
    }

    /// The line of a byte, for a message about another.
    pub(super) fn line(&self, at: usize) -> Line {
        let (file, number) = self.find(at);
        let file = match file {
            Some(file) => Some(file.clone()),
            None => (self.files.len() > 1).then(|| self.main.clone()),
        };
        Line { number, file }
    }

    /// Something wrong at byte `at`, with `key` of `place`.
    pub(super) fn problem(
        &mut self,
        at: usize,
        place: &Place<'_>,
        key: &str,
        message: impl fmt::Display,
    ) {
        let problem = self.describe(at, place, key, message);
        self.problems.push(problem);
    }

    /// Something that is allowed and probably not meant.
    pub(super) fn warning(
        &mut self,
        at: usize,
        place: &Place<'_>,
        key: &str,
        message: impl fmt::Display,
    ) {
        let warning = self.describe(at, place, key, message);
        self.warnings.push(warning);
    }

    /// A file that `key` of `place` names.
    pub(super) fn needs(
        &mut self,
        at: usize,
        place: &Place<'_>,
        key: &str,
        file: &Path,
        needs: Needs,
    ) {
        let start = format!("{key} {} ", quoted(&file.display().to_string()));
        let needed = Needed {
            file: file.to_owned(),
            needs,
            problem: self.describe(at, place, key, start),
        };
        self.needed.push(needed);
    }

    fn describe(
        &self,
        at: usize,
        place: &Place<'_>,
        key: &str,
        message: impl fmt::Display,
    ) -> Problem {
        let (file, line) = self.find(at);
        Problem {
            file: file.cloned(),
            line,
            path: place.path(key),
            message: format!("{}{message}", place.words()),
        }
    }
}

/// A text as messages show it: in quotes, escaped, cut when long.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.chars().count() > LONGEST {
        let start: String = text.chars().take(LONGEST).collect();
        format!("\"{}…\"", start.escape_debug())
    } else {
        format!("\"{}\"", text.escape_debug())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_from_one() {
        let mut sink = Sink::new("lb.toml");
        sink.add(0, None, "a\nbc\n\nd");
        let lines: Vec<usize> = (0..8).map(|at| sink.line(at).number).collect();
        assert_eq!(lines, [1, 1, 2, 2, 2, 3, 4, 4]);
    }

    #[test]
    fn a_place_has_a_path_and_words() {
        let service = Place::TOP.element("service", 1, Some("web"));
        let backend = service.element("backend", 0, None);
        assert_eq!(backend.path("address"), "service[1].backend[0].address");
        assert_eq!(backend.words(), "service \"web\", backend[0]: ");
        assert_eq!(Place::TOP.path("agent"), "agent");
        assert_eq!(Place::TOP.words(), "");
    }

    #[test]
    fn long_and_odd_texts_are_cut_and_escaped() {
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(&"x".repeat(100)), format!("\"{}…\"", "x".repeat(60)));
    }
}
