//! The assignments of a SET.

use super::dialect::Dialect;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::literal::{Literal, Shape};
use super::token::{Kind, Span, Token};

/// For whom a system variable is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the session.
    Session,
    /// For nobody but the next transaction, or for the session: `@@x`, which says nothing.
    Unsaid,
    /// For the server: GLOBAL, PERSIST, PERSIST_ONLY.
    Global,
}

/// What is assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable<'a> {
    /// A user variable, without `@` and quotes. None where quotes are doubled inside.
    User(Option<&'a [u8]>),
    /// A system variable. None where the name could not be made out.
    System(Scope, Option<&'a [u8]>),
    /// SET NAMES.
    Names,
    /// SET CHARACTER SET.
    CharacterSet,
    /// SET ROLE.
    Role,
    /// SET SESSION TRANSACTION.
    Transaction(Scope),
}

/// One of a SET's assignments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    /// What is assigned to.
    pub variable: Variable<'a>,
    /// The value as it stands there; of SET NAMES and the like all that follows those words.
    pub value: &'a [u8],
    /// What the value is; none for an expression.
    pub literal: Option<Literal>,
}

/// Goes through the assignments of a SET.
#[derive(Clone, Debug)]
pub struct Assignments<'a> {
    sql: &'a [u8],
    lexer: Lexer<'a>,
    token: Token,
    scope: Scope,
    is_first: bool,
}

impl<'a> Assignments<'a> {
    /// Of a statement that begins with SET.
    #[must_use]
    pub fn new(sql: &'a [u8], dialect: Dialect) -> Self {
        Self::from(sql, 0, dialect)
    }

    fn from(sql: &'a [u8], at: u32, dialect: Dialect) -> Self {
        let mut lexer = Lexer::new(sql, dialect).from(at);
        let first = lexer.token();
        let token = if first.is(K::SET) {
            lexer.token()
        } else {
            Token::NONE
        };
        Self {
            sql,
            lexer,
            token,
            scope: Scope::Session,
            is_first: true,
        }
    }

    fn step(&mut self) -> Token {
        let token = self.token;
        self.token = self.lexer.token();
        token
    }

    fn step_if(&mut self, matches: bool) -> bool {
        if matches {
            self.step();
        }
        matches
    }

    /// GLOBAL and the like.
    fn scope_word(&self) -> Option<Scope> {
        match self.token.keyword() {
            K::GLOBAL | K::PERSIST | K::PERSIST_ONLY => Some(Scope::Global),
            K::SESSION | K::LOCAL => Some(Scope::Session),
            _ => None,
        }
    }

    /// What is assigned to, and the `=` if there has to be one.
    fn variable(&mut self) -> Variable<'a> {
        if self.token.kind == Kind::UserVariable {
            let name = self.step().name(self.sql);
            self.equals();
            return Variable::User(name);
        }
        if self.step_if(self.token.kind == Kind::SystemVariable) {
            let scope = self.scope_word();
            // `@@global.x`, where `global` is no name of a variable.
            self.step_if(scope.is_some());
            self.step_if(self.token.is_symbol(b'.'));
            return self.system(scope.unwrap_or(Scope::Unsaid));
        }
        if let Some(scope) = self.scope_word() {
            self.step();
            // A scope holds for what follows as well; MySQL's grammar has `SESSION.x`, too.
            self.scope = scope;
            self.step_if(self.token.is_symbol(b'.'));
            if self.step_if(self.token.is(K::TRANSACTION)) {
                return Variable::Transaction(scope);
            }
        }
        let keyword = self.token.keyword();
        if keyword == K::NAMES {
            self.step();
            if !self.token.is_symbol(b'=') {
                return Variable::Names;
            }
            self.equals();
            return Variable::System(self.scope, None);
        }
        if matches!(keyword, K::CHARACTER | K::CHARSET | K::CHAR) {
            self.step();
            self.step_if(self.token.is(K::SET));
            return Variable::CharacterSet;
        }
        if self.is_first && keyword == K::ROLE {
            self.step();
            return Variable::Role;
        }
        self.system(self.scope)
    }

    /// The name of a system variable and the `=`.
    fn system(&mut self, scope: Scope) -> Variable<'a> {
        let name = match self.token.kind {
            Kind::Word(_) | Kind::Name => self.step().name(self.sql),
            Kind::Text
            | Kind::Number
            | Kind::Parameter
            | Kind::UserVariable
            | Kind::SystemVariable
            | Kind::Assign
            | Kind::Symbol(_)
            | Kind::End => None,
        };
        // What has several parts belongs to a component or a key cache.
        let whole = self.equals();
        Variable::System(scope, name.filter(|_| whole))
    }

    /// Skips `=` or `:=`, and says whether one was there.
    fn equals(&mut self) -> bool {
        let is_equals = self.token.is_symbol(b'=') || self.token.kind == Kind::Assign;
        self.step_if(is_equals)
    }

    /// The value up to the next comma that is in no parenthesis.
    fn value(&mut self) -> (&'a [u8], Option<Literal>) {
        let mut shape = Shape::default();
        let mut depth = 0_usize;
        let mut span: Option<Span> = None;
        loop {
            match self.token.kind {
                Kind::End => break,
                Kind::Symbol(b';' | b',') if depth == 0 => break,
                Kind::Symbol(b'(') => depth += 1,
                Kind::Symbol(b')') => depth = depth.saturating_sub(1),
                Kind::Symbol(_)
                | Kind::Word(_)
                | Kind::Name
                | Kind::Text
                | Kind::Number
                | Kind::Parameter
                | Kind::UserVariable
                | Kind::SystemVariable
                | Kind::Assign => {}
            }
            let token = self.step();
            shape.push(token);
            let start = span.map_or(token.span.start, |span| span.start);
            span = Some(Span {
                start,
                end: token.span.end,
            });
        }
        (span.unwrap_or_default().of(self.sql), shape.literal())
    }
}

impl<'a> Iterator for Assignments<'a> {
    type Item = Assignment<'a>;

    fn next(&mut self) -> Option<Assignment<'a>> {
        if matches!(self.token.kind, Kind::End | Kind::Symbol(b';')) {
            return None;
        }
        let variable = self.variable();
        self.is_first = false;
        let (value, literal) = if matches!(variable, Variable::Transaction(_) | Variable::Role) {
            // Its parts are separated by commas.
            let mut span = self.token.span;
            while !matches!(self.token.kind, Kind::End | Kind::Symbol(b';')) {
                span.end = self.step().span.end;
            }
            (span.of(self.sql), None)
        } else {
            self.value()
        };
        self.step_if(self.token.is_symbol(b','));
        Some(Assignment {
            variable,
            value,
            literal,
        })
    }
}

/// Whether nothing of the session's is changed.
pub(super) fn is_global(sql: &[u8], at: u32, dialect: Dialect) -> bool {
    let mut assignments = Assignments::from(sql, at, dialect).peekable();
    assignments.peek().is_some()
        && assignments.all(|assignment| {
            matches!(
                assignment.variable,
                Variable::System(Scope::Global, _) | Variable::Transaction(Scope::Global)
            )
        })
}

/// Whether a SET TRANSACTION is one that every server takes, so that it may be sent later: an
/// isolation level, READ ONLY or READ WRITE, or one of each.
#[must_use]
pub fn is_plain_transaction(sql: &[u8], dialect: Dialect) -> bool {
    let mut lexer = Lexer::new(sql, dialect);
    let begins = lexer.token().is(K::SET) && lexer.token().is(K::TRANSACTION);
    let (mut levels, mut accesses) = (0, 0);
    let mut more = begins;
    while more {
        match (lexer.token().keyword(), lexer.token().keyword()) {
            (K::ISOLATION, K::LEVEL) => {
                levels += 1;
                more = match lexer.token().keyword() {
                    K::SERIALIZABLE => true,
                    K::REPEATABLE => lexer.token().is(K::READ),
                    K::READ => matches!(lexer.token().keyword(), K::COMMITTED | K::UNCOMMITTED),
                    _ => false,
                };
            }
            (K::READ, K::ONLY | K::WRITE) => accesses += 1,
            _ => more = false,
        }
        let after = lexer.token();
        if more && matches!(after.kind, Kind::End) {
            return levels <= 1 && accesses <= 1 && !lexer.is_odd();
        }
        more &= after.is_symbol(b',');
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::dialect::Family;
    use super::*;

    const DIALECT: Dialect = Dialect::new(Family::MySql, 90_704);

    fn assignments(sql: &str) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let variable = |variable: Variable<'_>| match variable {
            Variable::User(name) => format!("@{}", text(name.unwrap_or(b"?"))),
            Variable::System(scope, name) => format!("{scope:?} {}", text(name.unwrap_or(b"?"))),
            Variable::Names => "names".to_owned(),
            Variable::CharacterSet => "character set".to_owned(),
            Variable::Role => "role".to_owned(),
            Variable::Transaction(scope) => format!("{scope:?} transaction"),
        };
        Assignments::new(sql.as_bytes(), DIALECT)
            .map(|one| {
                let is = one.literal.map_or("-".to_owned(), |it| format!("{it:?}"));
                format!("{}: {} {is}", variable(one.variable), text(one.value))
            })
            .collect()
    }

    #[test]
    fn every_spelling() {
        let rows: &[(&str, &[&str])] = &[
            (
                "SET @x=1, autocommit=0",
                &["@x: 1 Number", "Session autocommit: 0 Number"],
            ),
            (
                "SET @`a b` := 'c', @'d' = -1;",
                &["@a b: 'c' Text", "@d: -1 Number"],
            ),
            (
                "set session sql_mode = ansi",
                &["Session sql_mode: ansi Word"],
            ),
            ("SET @@autocommit = OFF", &["Unsaid autocommit: OFF Word"]),
            (
                "SET @@session.autocommit = 0",
                &["Session autocommit: 0 Number"],
            ),
            (
                "SET @@local . `autocommit` = 0",
                &["Session autocommit: 0 Number"],
            ),
            (
                "SET LOCAL autocommit = 0",
                &["Session autocommit: 0 Number"],
            ),
            (
                "SET GLOBAL a = 1, b = 2, SESSION c = 3",
                &[
                    "Global a: 1 Number",
                    "Global b: 2 Number",
                    "Session c: 3 Number",
                ],
            ),
            (
                "SET @@GLOBAL.a = 1, b = 2",
                &["Global a: 1 Number", "Session b: 2 Number"],
            ),
            ("SET PERSIST a = 1", &["Global a: 1 Number"]),
            (
                "SET NAMES utf8mb4, @a = 1",
                &["names: utf8mb4 Word", "@a: 1 Number"],
            ),
            (
                "SET NAMES 'latin1' COLLATE latin1_bin",
                &["names: 'latin1' COLLATE latin1_bin -"],
            ),
            (
                "SET CHARACTER SET utf8mb4",
                &["character set: utf8mb4 Word"],
            ),
            ("SET CHARSET utf8mb4", &["character set: utf8mb4 Word"]),
            ("SET ROLE a, b", &["role: a, b -"]),
            (
                "SET SESSION TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
                &["Session transaction: READ ONLY, ISOLATION LEVEL SERIALIZABLE -"],
            ),
            (
                "SET a = CONCAT('x', (SELECT 1, 2)), b = 1",
                &[
                    "Session a: CONCAT('x', (SELECT 1, 2)) -",
                    "Session b: 1 Number",
                ],
            ),
            (
                "SET a = @b, c = 1 + 1",
                &["Session a: @b -", "Session c: 1 + 1 -"],
            ),
            (
                "SET hot.key_buffer_size = 1",
                &["Session ?: .key_buffer_size = 1 -"],
            ),
            ("SET", &[]),
            ("SET ,", &["Session ?:  -"]),
            ("SELECT 1", &[]),
        ];
        for (sql, expected) in rows {
            assert_eq!(assignments(sql), *expected, "{sql}");
        }
    }

    #[test]
    fn plain_transactions() {
        let plain = |sql: &str| is_plain_transaction(sql.as_bytes(), DIALECT);
        assert!(plain("SET TRANSACTION READ ONLY"));
        assert!(plain(
            "set transaction isolation level read committed, read write"
        ));
        assert!(plain("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"));
        assert!(plain("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"));
        assert!(!plain("SET TRANSACTION"));
        assert!(!plain("SET TRANSACTION READ ONLY, READ WRITE"));
        assert!(!plain("SET TRANSACTION READ ONLY,"));
        assert!(!plain("SET TRANSACTION READ ONLY; SELECT 1"));
        assert!(!plain("SET TRANSACTION ISOLATION LEVEL REPEATABLE"));
    }
}
