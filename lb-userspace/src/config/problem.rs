//! What is wrong in a config file, and where.

use std::{fmt, path::Path};

use super::files::{Needed, Needs};

/// One thing that is wrong, or worth a warning, in a config file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1.
    pub line: usize,
    /// The key as a path, with indices from 0: `service[1].backend[0].address`.
    pub path: String,
    /// Where in words, what was found and what is allowed.
    pub message: String,
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
        for (index, Problem { line, message, .. }) in self.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{line}: {message}", self.file)?;
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
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    pub(super) needed: Vec<Needed>,
}

impl Sink {
    /// For problems of this text.
    pub(super) fn new(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self {
            line_starts: std::iter::once(0)
                .chain(ends.map(|(at, _)| at + 1))
                .collect(),
            problems: Vec::new(),
            warnings: Vec::new(),
            needed: Vec::new(),
        }
    }

    /// The line of a byte, from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= at)
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
        Problem {
            line: self.line(at),
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
        let sink = Sink::new("a\nbc\n\nd");
        let lines: Vec<usize> = (0..8).map(|at| sink.line(at)).collect();
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
