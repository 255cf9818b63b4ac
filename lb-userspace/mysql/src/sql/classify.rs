//! From a text to what is known of it, in one pass.

use super::class::Class;
use super::dialect::{Charset, Dialect};
use super::facts::Facts;
use super::keyword::Keyword as K;
use super::lexer::Lexer;
use super::scan::Scan;
use super::set;
use super::statement::Statement;
use super::token::{Kind, Token};
use super::verb::{self, Head};

/// What is known of a text. Of several statements in one text only that they are several; see
/// [`super::Parts`].
///
/// Takes time linear in the length of the text, and allocates nothing.
#[must_use]
pub fn classify(sql: &[u8], dialect: Dialect) -> Statement {
    let mut lexer = Lexer::new(sql, dialect);
    let first = lexer.token();
    let (mut statement, next) = one(&mut lexer, first, sql);
    if next.kind != Kind::End {
        statement.class = Class::Multi;
    }
    statement
}

/// Reads one statement, from its first token. Gives the first token after its `;` as well.
pub(super) fn one(lexer: &mut Lexer<'_>, first: Token, sql: &[u8]) -> (Statement, Token) {
    let dialect = lexer.dialect();
    let mut scan = Scan::new(sql, dialect);
    let mut head = Head::default();
    let mut body = Body::default();
    let mut token = first;
    let mut next = lexer.token();
    while token.kind != Kind::End && !(token.is_symbol(b';') && body.depth == 0) {
        scan.token(token, next);
        head.push(token);
        body.token(token, next, &head);
        if head.length() == 3 && head.keyword(0) == K::SHOW {
            // SHOW CREATE, SHOW PROCEDURE STATUS.
            scan.facts = scan.facts.without(Facts::WRITE_WORD);
        }
        // InnoDB locks what a query in SHOW … WHERE reads, in both families.
        if head.keyword(0) == K::SHOW && token.is(K::SELECT) {
            scan.facts |= Facts::LOCKING;
        }
        token = next;
        next = lexer.token();
    }
    // After the end there is only the end.
    let (class, more) = verb::class(&head, scan.facts, &dialect);
    let mut facts = scan.facts | more;
    if facts.has(Facts::RELEASES_ALL) {
        facts |= Facts::ASKS_LOCK;
        if !head.is_bare_call() {
            facts = facts.without(Facts::RELEASES_ALL);
        }
    }
    // SELECT … INTO @a, LOAD DATA … (@a)
    let gives_out = class == Class::SelectInto || head.keyword(0) == K::LOAD;
    facts |= Facts::ASSIGNS.only_if(gives_out && facts.has(Facts::USER_VARIABLE));
    facts |= Facts::ODD.only_if(is_odd(lexer, &dialect));
    if dialect.charset == Charset::Unsafe {
        let own = first.span.start as usize..token.span.start as usize;
        let is_ascii = sql.get(own).is_some_and(<[u8]>::is_ascii);
        facts |= Facts::HIGH_BYTES.only_if(!is_ascii);
    }
    let mut statement = Statement {
        class,
        facts,
        hint: lexer.hints().hint(),
        dialect,
        first: head.first_word(),
        calls: scan.calls,
        call_count: u8::try_from(scan.call_count).unwrap_or(u8::MAX),
    };
    if class == Class::Set && set::is_global(sql, first.span.start, dialect) {
        statement.class = Class::SetGlobal;
    }
    (statement, next)
}

fn is_odd(lexer: &Lexer<'_>, dialect: &Dialect) -> bool {
    lexer.is_odd() || dialect.mode.foreign || dialect.charset == Charset::Unsafe
}

/// The body of a procedure, function, trigger or event, whose `;` do not end the statement.
#[derive(Default)]
struct Body {
    may_have: bool,
    depth: usize,
    before: Option<Token>,
}

impl Body {
    fn token(&mut self, token: Token, next: Token, head: &Head) {
        let keyword = token.keyword();
        let before = self.before.replace(token);
        if !self.may_have {
            let is_block = head.length() == 2 && head.keyword(0) == K::BEGIN && keyword == K::NOT;
            self.may_have = is_block || (!head.is_full() && head.names_routine());
            self.depth = usize::from(is_block);
            return;
        }
        match keyword {
            K::BEGIN => self.depth += 1,
            K::CASE if before.is_none_or(|before| !before.is(K::END)) => self.depth += 1,
            K::END
                if !matches!(
                    next.keyword(),
                    K::IF | K::LOOP | K::WHILE | K::REPEAT | K::FOR
                ) =>
            {
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
    }
}
