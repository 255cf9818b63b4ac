//! The lexer and the classes of statements.
//!
//! What a statement is depends on no space and no comment; what a write stands behind is no read;
//! and a text that is a hundred times as long takes about a hundred times as long.

use std::time::{Duration, Instant};

use lb_mysql::sql::{
    Assignments, Charset, Class, Dialect, Facts, Family, Kind, Lexer, Parts, SqlMode, Tables,
    classify, prepared_name, prepared_text, used_schema,
};

use super::{choice, demand};
use crate::Signature;

/// Spaces, and what stands for such.
const GAPS: [&str; 8] = [
    " ",
    "\t",
    "\r\n",
    " /* x */ ",
    "/**/",
    " -- x\n",
    "#'\n",
    " /*/ */ ",
];

/// What no read has behind it, if it has ended.
const WRITES: [&str; 4] = [
    "\n; DELETE FROM t",
    "\n FOR UPDATE",
    "\n INTO @a",
    "\n LOCK IN SHARE MODE",
];

/// Bytes of the long text, and what looking at them may take, on a machine that does much else.
const LONG: usize = 60_000;
const PATIENCE: Duration = Duration::from_secs(4);

pub(crate) fn run(mut input: &[u8]) -> Result<Signature, String> {
    let how = choice(&mut input);
    let dialect = dialect(how);
    let sql = input;
    let statement = classify(sql, dialect);
    look(sql, dialect);
    tokens_are_in_order(sql, dialect)?;
    let is_odd = statement.has(Facts::ODD);
    let parts = Parts::new(sql, dialect).count();
    demand!(
        parts <= sql.len(),
        "{parts} statements in {} bytes",
        sql.len()
    );
    demand!(
        (statement.class == Class::Multi) == (parts > 1 || first_is_multi(sql, dialect)),
        "{} of {parts} parts",
        statement.class.label()
    );
    if !is_odd {
        dressed(sql, dialect, usize::from(how))?;
        for write in WRITES {
            let longer = [sql, write.as_bytes()].concat();
            let class = classify(&longer, dialect);
            demand!(
                class.class != Class::Read || class.has(Facts::ODD) || parts == 0,
                "a read with {write:?} behind it is one"
            );
        }
    }
    if how == 0xff && !sql.is_empty() && sql.len() <= 24 {
        is_linear(sql, dialect)?;
    }
    let facts = statement.facts.names().enumerate();
    let mut signature: Signature = facts
        .map(|(index, name)| (index as u32) << 16 | u32::from(name.as_bytes()[0]) << 8 | 1)
        .collect();
    signature.push(statement.class as u32);
    signature.push(0x1000 + parts.min(5) as u32);
    signature.push(0x2000 + statement.calls().len() as u32);
    Ok(signature)
}

fn dialect(how: u8) -> Dialect {
    let dialect = if how & 1 == 0 {
        Dialect::new(Family::MySql, 90_704)
    } else {
        Dialect::new(Family::MariaDb, 101_119)
    };
    Dialect {
        mode: SqlMode {
            ansi_quotes: how & 2 != 0,
            no_backslash_escapes: how & 4 != 0,
            foreign: how & 0x38 == 0x38,
        },
        charset: match how >> 6 {
            2 => Charset::AsciiAndMore,
            3 if how != 0xff => Charset::Unsafe,
            _ => Charset::Utf8,
        },
        ..dialect
    }
}

/// Everything that reads a text.
fn look(sql: &[u8], dialect: Dialect) {
    let statement = classify(sql, dialect);
    for call in statement.calls() {
        let _ = call.names(sql);
    }
    for part in Parts::new(sql, dialect) {
        Tables::new(part.sql, dialect).for_each(drop);
    }
    Assignments::new(sql, dialect).for_each(drop);
    Tables::new(sql, dialect).for_each(drop);
    let _ = prepared_name(sql, dialect);
    let _ = prepared_text(sql, dialect);
    let _ = used_schema(sql, dialect);
}

/// A text that begins with `;`, or has no more than one statement and something behind it.
fn first_is_multi(sql: &[u8], dialect: Dialect) -> bool {
    let mut parts = Parts::new(sql, dialect);
    let first = parts.next();
    first.is_some_and(|part| classify(part.sql, dialect).class == Class::Multi)
}

fn tokens_are_in_order(sql: &[u8], dialect: Dialect) -> Result<(), String> {
    let mut lexer = Lexer::new(sql, dialect);
    let mut at = 0;
    loop {
        let token = lexer.token();
        let span = token.span;
        demand!(
            span.start >= at && span.end >= span.start,
            "{token:?} behind byte {at}"
        );
        at = span.end;
        if token.kind == Kind::End {
            break;
        }
        demand!(span.end > span.start, "{token:?} is empty");
    }
    demand!(at as usize == sql.len(), "the end is at {at}");
    Ok(())
}

/// The same statement with other spaces and comments wherever it has some.
fn dressed(sql: &[u8], dialect: Dialect, seed: usize) -> Result<(), String> {
    // What a version's comment has in it would be taken out.
    let has_version = |marker: &[u8]| sql.windows(marker.len()).any(|window| window == marker);
    if has_version(b"/*!") || has_version(b"/*M!") {
        return Ok(());
    }
    let mut lexer = Lexer::new(sql, dialect);
    let mut gaps = GAPS.iter().cycle().skip(seed % GAPS.len());
    let mut dressed = Vec::new();
    let mut end = 0;
    loop {
        let token = lexer.token();
        if token.span.start > end || end == 0 {
            dressed.extend_from_slice(gaps.next().unwrap_or(&" ").as_bytes());
        }
        end = token.span.end;
        dressed.extend_from_slice(token.span.of(sql));
        if token.kind == Kind::End {
            break;
        }
    }
    let (before, after) = (classify(sql, dialect), classify(&dressed, dialect));
    demand!(
        (before.class, before.facts) == (after.class, after.facts),
        "{} with other spaces is {} {:?}, and {} {:?} before",
        String::from_utf8_lossy(&dressed),
        after.class.label(),
        after.facts.names().collect::<Vec<_>>(),
        before.class.label(),
        before.facts.names().collect::<Vec<_>>()
    );
    Ok(())
}

fn is_linear(sql: &[u8], dialect: Dialect) -> Result<(), String> {
    let long = sql.repeat(LONG / sql.len());
    let began = Instant::now();
    look(&long, dialect);
    let took = began.elapsed();
    demand!(
        took < PATIENCE,
        "{} bytes took {} ms",
        long.len(),
        took.as_millis()
    );
    Ok(())
}
