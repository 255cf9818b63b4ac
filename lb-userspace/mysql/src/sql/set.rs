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
        let (value, literal) = if matches!(variable, Variable::Transaction(_)) {
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
