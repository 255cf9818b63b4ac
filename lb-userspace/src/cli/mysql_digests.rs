//! `lb mysql digests`

use std::{io::IsTerminal as _, io::stdout, path::Path};

use clap::ValueEnum;
use comfy_table::CellAlignment;

use super::{
    Failure,
    mysql_sessions::{clean, document},
    output::print,
    status_page::{align, plain_table, trimmed},
};
use crate::{
    admin::client,
    mysql::seen::{Digest, Digests, Totals},
};

/// Characters of a digest's text in a line.
const TEXT: usize = 100;

/// What comes first.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Order {
    /// What took longest together
    Time,
    /// What came most often
    Count,
    /// What took longest once
    Longest,
    /// What had the most errors
    Errors,
}

impl Order {
    /// Sorts, the most first.
    pub(super) fn sort(self, digests: &mut [Digest]) {
        let number = |one: &Digest| match self {
            Self::Time => one.totals.seconds,
            Self::Count => one.totals.count as f64,
            Self::Longest => one.totals.longest_seconds,
            Self::Errors => one.totals.errors as f64,
        };
        digests.sort_by(|a, b| number(b).total_cmp(&number(a)));
    }
}

pub(super) fn digests(
    socket: &Path,
    (order, limit): (Order, usize),
    json: bool,
) -> Result<(), Failure> {
    let mut all = client::mysql_digests(socket).map_err(Failure::failed)?;
    order.sort(&mut all.digests);
    let found = all.digests.len();
    all.digests.truncate(limit);
    if json {
        return document(&all);
    }
    print(render(&all, found, stdout().is_terminal()).as_bytes())
}

fn render(all: &Digests, found: usize, on_terminal: bool) -> String {
    if !all.counted {
        return "statements are not counted: statement_digests = 0 in [mysql]\n".to_owned();
    }
    let mut table = plain_table(on_terminal);
    table.set_header([
        "count",
        "primary",
        "replica",
        "errors",
        "time",
        "mean",
        "longest",
        "statement and why",
    ]);
    for one in &all.digests {
        let why = why(&one.totals);
        let text: String = clean(&one.text);
        let text = match text.char_indices().nth(TEXT) {
            Some((at, _)) => format!("{}…", &text[..at]),
            None => text,
        };
        table.add_row(row(&one.totals, format!("{text}  [{why}]")));
    }
    if all.other.count > 0 {
        table.add_row(row(&all.other, "other".to_owned()));
    }
    align(&mut table, &[CellAlignment::Right; 7]);
    let shown = all.digests.len();
    let rest = match found - shown {
        0 => String::new(),
        more => format!("\n{more} more: --limit {found}\n"),
    };
    format!("{}\n{rest}", trimmed(&table))
}

fn why(totals: &Totals) -> String {
    let primary = totals.primary_reasons.iter();
    let replica = totals.replica_reasons.iter();
    let all = primary
        .map(|reason| format!("primary/{reason}"))
        .chain(replica.map(|reason| format!("replica/{reason}")));
    all.collect::<Vec<_>>().join(", ")
}

fn row(totals: &Totals, text: String) -> [String; 8] {
    let Totals {
        count,
        primary,
        replica,
        errors,
        seconds,
        longest_seconds,
        ..
    } = totals;
    let mean = if *count > 0 {
        seconds / *count as f64
    } else {
        0.0
    };
    [
        count.to_string(),
        primary.to_string(),
        replica.to_string(),
        errors.to_string(),
        duration(*seconds),
        duration(mean),
        duration(*longest_seconds),
        text,
    ]
}

/// With the unit that fits.
pub(super) fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.001 => format!("{:.0} µs", seconds * 1e6),
        _ if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{seconds:.1} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str, count: u64, seconds: f64) -> Digest {
        Digest {
            digest: "0".repeat(16),
            text: text.to_owned(),
            totals: Totals {
                count,
                primary: 1,
                replica: count - 1,
                primary_reasons: vec!["in_transaction".to_owned()],
                replica_reasons: vec!["read".to_owned()],
                seconds,
                longest_seconds: 0.002,
                ..Totals::default()
            },
        }
    }

    #[test]
    fn the_most_comes_first() {
        let mut digests = vec![digest("a", 10, 1.0), digest("b", 2, 3.0)];
        Order::Time.sort(&mut digests);
        assert_eq!(digests[0].text, "b");
        Order::Count.sort(&mut digests);
        assert_eq!(digests[0].text, "a");
    }

    #[test]
    fn a_line_for_each_kind() {
        let long = "x".repeat(2000);
        let mut all = Digests {
            counted: true,
            digests: vec![digest("SELECT\x1b ?", 4, 0.002), digest(&long, 1, 0.0)],
            other: Totals::default(),
        };
        let page = render(&all, 5, false);
        let lines: Vec<&str> = page.lines().collect();
        let words: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "4 1 3 0 2.0 ms 500 µs 2.0 ms SELECT\u{fffd} ? [primary/in_transaction, replica/read]"
        );
        assert!(lines[2].contains("xxx…  ["), "{page}");
        assert_eq!(lines[4], "3 more: --limit 5");
        all.counted = false;
        assert!(render(&all, 0, false).contains("statement_digests"));
    }
}
