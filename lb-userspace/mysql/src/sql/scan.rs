//! Looks at every word of a statement for what makes it more than a read.

use super::dialect::Dialect;
use super::facts::Facts;
use super::functions::{self, Function};
use super::keyword::Keyword as K;
use super::statement::{CALLS, Call};
use super::token::{Kind, Span, Token};

/// What stands right before the token that is looked at, and what was found so far.
#[derive(Clone, Debug)]
pub(super) struct Scan<'a> {
    sql: &'a [u8],
    dialect: Dialect,
    pub(super) facts: Facts,
    pub(super) calls: [Call; CALLS],
    pub(super) call_count: usize,
    before: Token,
    before_that: Token,
    depth: usize,
    /// After WITH, before the query: names of common tables stand here.
    in_with: bool,
    /// In the name after `@@`.
    in_variable: bool,
    /// After `information_schema.`.
    in_metadata: bool,
}

/// Tables of `information_schema` whose rows are the same on all servers.
const METADATA: [&str; 21] = [
    "character_sets",
    "check_constraints",
    "collation_character_set_applicability",
    "collations",
    "column_privileges",
    "columns",
    "events",
    "key_column_usage",
    "keywords",
    "parameters",
    "partitions",
    "referential_constraints",
    "routines",
    "schema_privileges",
    "schemata",
    "statistics",
    "table_constraints",
    "table_privileges",
    "tables",
    "triggers",
    "views",
];

/// System variables that say no more than which server it is.
const IDENTITY: [&str; 4] = ["hostname", "port", "server_id", "server_uuid"];

impl<'a> Scan<'a> {
    pub(super) fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        Self {
            sql,
            dialect,
            facts: Facts::NONE,
            calls: [Call::default(); CALLS],
            call_count: 0,
            before: Token::NONE,
            before_that: Token::NONE,
            depth: 0,
            in_with: false,
            in_variable: false,
            in_metadata: false,
        }
    }

    /// Looks at a token; `next` is the one after it.
    pub(super) fn token(&mut self, token: Token, next: Token) {
        match token.kind {
            Kind::Word(keyword) => self.word(token, keyword, next),
            Kind::Name => self.name(token, next),
            Kind::UserVariable => self.facts |= Facts::USER_VARIABLE,
            Kind::SystemVariable => {
                let is_named = matches!(next.kind, Kind::Word(_) | Kind::Name);
                self.facts |= Facts::SYSTEM_VARIABLE.only_if(!is_named);
            }
            Kind::Assign => self.facts |= Facts::ASSIGNS,
            Kind::Parameter => self.facts |= Facts::PARAMETER,
            Kind::Symbol(b'(') => {
                // A query in parentheses, after the last common table.
                self.in_with &= self.depth > 0 || !self.before.is_symbol(b')');
                self.depth += 1;
            }
            Kind::Symbol(b')') => self.depth = self.depth.saturating_sub(1),
            Kind::Symbol(_) | Kind::Text | Kind::Number | Kind::End => {}
        }
        self.in_variable = match token.kind {
            Kind::SystemVariable => true,
            // The scope and the point before the name.
            Kind::Word(_) => self.in_variable && next.is_symbol(b'.'),
            Kind::Symbol(symbol) => self.in_variable && symbol == b'.',
            Kind::Name
            | Kind::Text
            | Kind::Number
            | Kind::Parameter
            | Kind::UserVariable
            | Kind::Assign
            | Kind::End => false,
        };
        self.before_that = self.before;
        self.before = token;
    }

    fn word(&mut self, token: Token, keyword: K, next: Token) {
        if self.in_metadata {
            self.metadata(token);
        }
        if keyword != K::OTHER {
            self.keyword(keyword, next);
        }
        // Any other word begins what follows the common tables.
        let is_of_with = matches!(keyword, K::WITH | K::RECURSIVE | K::AS);
        if self.in_with && self.depth == 0 && !is_of_with && !self.names_common_table() {
            self.in_with = false;
        }
        if self.in_variable {
            return self.variable(token, next);
        }
        if next.is_symbol(b'(') && !self.is_no_call(keyword) {
            let attached = token.span.end == next.span.start;
            self.call(token, attached);
        }
    }

    fn keyword(&mut self, keyword: K, next: Token) {
        match keyword {
            K::UPDATE if self.before.is(K::FOR) => self.facts |= Facts::LOCKING,
            K::UPDATE
            | K::DELETE
            | K::CREATE
            | K::DROP
            | K::ALTER
            | K::GRANT
            | K::REVOKE
            | K::CALL
            | K::LOAD
            | K::PROCEDURE => self.facts |= Facts::WRITE_WORD,
            // Each is a function as well.
            K::INSERT | K::REPLACE | K::TRUNCATE => {
                self.facts |= Facts::WRITE_WORD.only_if(!next.is_symbol(b'('));
            }
            K::RENAME => self.facts |= Facts::WRITE_WORD | Facts::RENAMES,
            K::INTO => self.facts |= Facts::INTO,
            K::FROM => self.facts |= Facts::HAS_FROM,
            K::LOCK => self.facts |= Facts::LOCKING,
            K::SHARE => self.facts |= Facts::LOCKING.only_if(self.before.is(K::FOR)),
            K::SQL_CALC_FOUND_ROWS => self.facts |= Facts::CALC_FOUND_ROWS,
            // Not WITH ROLLUP.
            K::WITH if self.before == Token::NONE => self.in_with = true,
            _ if self.dialect.is_mariadb() => self.sequence(keyword, next),
            _ => {}
        }
        if next.is_symbol(b'.') {
            self.schema(keyword);
        }
    }

    /// MariaDB's sequences.
    fn sequence(&mut self, keyword: K, next: Token) {
        match keyword {
            K::NEXT if next.is(K::VALUE) => self.facts |= Facts::SEQUENCE,
            K::PREVIOUS if next.is(K::VALUE) => self.facts |= Facts::LAST_INSERT_ID,
            K::NEXTVAL | K::SETVAL => self.facts |= Facts::SEQUENCE,
            K::LASTVAL | K::CURRVAL => self.facts |= Facts::LAST_INSERT_ID,
            _ => {}
        }
    }

    /// A schema before a point.
    fn schema(&mut self, keyword: K) {
        match keyword {
            K::PERFORMANCE_SCHEMA | K::SYS | K::MYSQL => self.facts |= Facts::SERVER_STATE,
            K::INFORMATION_SCHEMA => self.in_metadata = true,
            _ => {}
        }
    }

    /// A table of `information_schema`.
    fn metadata(&mut self, token: Token) {
        self.in_metadata = false;
        let name = token.name(self.sql).unwrap_or_default();
        let is_same = METADATA
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()));
        self.facts |= Facts::SERVER_STATE.only_if(!is_same);
    }

    fn name(&mut self, token: Token, next: Token) {
        if self.in_variable {
            return self.variable(token, next);
        }
        if self.in_metadata {
            self.metadata(token);
        }
        if next.is_symbol(b'.') {
            self.schema(K::of(token.name(self.sql).unwrap_or_default()));
        }
        let is_no_call = self.before.is(K::AS) || self.names_common_table();
        if next.is_symbol(b'(') && !is_no_call {
            self.note(token);
        }
    }

    /// A word of the name after `@@`.
    fn variable(&mut self, token: Token, next: Token) {
        let name = token.name(self.sql).unwrap_or_default();
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if next.is_symbol(b'.') {
            return;
        }
        // Whoever asks which server answers is told the one that does.
        self.facts |= Facts::SYSTEM_VARIABLE.only_if(!IDENTITY.iter().any(|known| is(known)));
        if is("last_insert_id") || is("identity") {
            self.facts |= Facts::LAST_INSERT_ID;
        } else if is("warning_count") || is("error_count") {
            self.facts |= Facts::WARNINGS;
        }
    }

    fn names_common_table(&self) -> bool {
        self.before.is(K::WITH)
            || self.before.is(K::RECURSIVE)
            || (self.in_with && self.depth == 0 && self.before.is_symbol(b','))
    }

    /// Whether a parenthesis after the word begins something else than arguments. These are words
    /// that no function can be named by, or that stand where none can be called.
    fn is_no_call(&self, keyword: K) -> bool {
        if self.before.is(K::AS) || self.names_common_table() {
            return true;
        }
        // `db.if(…)` is a function of the schema.
        if self.before.is_symbol(b'.') {
            return false;
        }
        match keyword {
            K::SELECT
            | K::FROM
            | K::WHERE
            | K::AND
            | K::OR
            | K::IN
            | K::AS
            | K::BY
            | K::ON
            | K::NOT
            | K::LIMIT
            | K::JOIN
            | K::UNION
            | K::EXCEPT
            | K::EXISTS
            | K::ANY
            | K::SOME
            | K::ALL
            | K::DISTINCT
            | K::DISTINCTROW
            | K::USING
            | K::BETWEEN
            | K::LIKE
            | K::RLIKE
            | K::REGEXP
            | K::DIV
            | K::XOR
            | K::CASE
            | K::WHEN
            | K::THEN
            | K::ELSE
            | K::INTERVAL
            | K::HAVING
            | K::OVER
            | K::PARTITION
            | K::INDEX
            | K::KEY
            | K::STRAIGHT_JOIN
            | K::DESC
            | K::DESCRIBE
            | K::EXPLAIN
            | K::ANALYZE
            | K::TABLE
            | K::SET
            | K::IF
            | K::RETURN
            | K::DO
            | K::WITH => true,
            K::INTERSECT => self.dialect.has_intersect(),
            K::OF | K::LATERAL => !self.dialect.is_mariadb(),
            K::COLUMNS => self.before.kind == Kind::Text,
            K::AGAINST => self.before.is_symbol(b')'),
            _ => false,
        }
    }

    /// A call of a function, by a word.
    fn call(&mut self, token: Token, attached: bool) {
        if self.before.is_symbol(b'.') {
            return self.note(token);
        }
        match functions::find(token.span.of(self.sql), &self.dialect) {
            None => self.note(token),
            Some(Function::Attached) if !attached => self.note(token),
            Some(function) => self.facts |= function.facts(),
        }
    }

    /// Notes a call of a function that is not built in.
    fn note(&mut self, token: Token) {
        self.facts |= Facts::CALLS;
        let schema = if self.before.is_symbol(b'.') {
            self.before_that.span
        } else {
            Span::default()
        };
        if let Some(call) = self.calls.get_mut(self.call_count) {
            *call = Call {
                schema,
                name: token.span,
            };
            self.call_count += 1;
        } else {
            self.facts |= Facts::TOO_MANY_CALLS;
        }
    }
}
