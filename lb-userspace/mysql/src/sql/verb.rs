//! What a statement is, by its first words.

use super::class::Class;
use super::dialect::Dialect;
use super::facts::Facts;
use super::keyword::Keyword as K;
use super::token::{Span, Token};

/// How many of the first tokens are kept.
const LENGTH: usize = 16;

/// The first tokens of a statement, without the parentheses in front.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    tokens: [Token; LENGTH],
    length: usize,
    parentheses: usize,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            tokens: [Token::NONE; LENGTH],
            length: 0,
            parentheses: 0,
        }
    }
}

impl Head {
    pub(super) fn push(&mut self, token: Token) {
        if self.length == 0 && token.is_symbol(b'(') {
            self.parentheses += 1;
        } else if let Some(place) = self.tokens.get_mut(self.length) {
            *place = token;
            self.length += 1;
        }
    }

    pub(super) fn length(&self) -> usize {
        self.length
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == LENGTH
    }

    fn tokens(&self) -> &[Token] {
        self.tokens.get(..self.length).unwrap_or_default()
    }

    fn at(&self, index: usize) -> Token {
        self.tokens().get(index).copied().unwrap_or(Token::NONE)
    }

    pub(super) fn keyword(&self, index: usize) -> K {
        self.at(index).keyword()
    }

    pub(super) fn first_word(&self) -> Span {
        self.at(0).span
    }

    fn has(&self, keyword: K) -> bool {
        self.tokens().iter().any(|token| token.is(keyword))
    }

    /// Whether it is a call of a function and nothing else, as in SELECT f().
    pub(super) fn is_bare_call(&self) -> bool {
        let [_, _, open, close] = self.tokens() else {
            return false;
        };
        open.is_symbol(b'(') && close.is_symbol(b')')
    }

    /// Whether it makes or changes something that has a body of statements, so far.
    pub(super) fn names_routine(&self) -> bool {
        let is_routine = |word| {
            matches!(
                word,
                K::PROCEDURE | K::FUNCTION | K::TRIGGER | K::EVENT | K::PACKAGE
            )
        };
        let at = match (self.keyword(0), self.keyword(1), self.keyword(2)) {
            (K::CREATE, K::OR, K::REPLACE) => 3,
            (K::CREATE | K::ALTER, _, _) => 1,
            _ => return false,
        };
        match self.keyword(at) {
            K::AGGREGATE => is_routine(self.keyword(at + 1)),
            // DEFINER = name @ name
            K::DEFINER => (at + 2..at + 8).any(|index| is_routine(self.keyword(index))),
            word => is_routine(word),
        }
    }

    /// Whether the two stand there one after the other.
    fn has_pair(&self, first: K, second: K) -> bool {
        let mut pairs = self.tokens().windows(2);
        pairs.any(|pair| pair[0].is(first) && pair[1].is(second))
    }
}

/// What it is, and what else follows from its first words.
pub(super) fn class(head: &Head, facts: Facts, dialect: &Dialect) -> (Class, Facts) {
    let plain = |class| (class, Facts::NONE);
    let commits = |class| (class, Facts::IMPLICIT_COMMIT);
    let second = head.keyword(1);
    let first = head.keyword(0);
    if head.parentheses > 0 && !matches!(first, K::SELECT | K::WITH | K::TABLE | K::VALUES) {
        return plain(Class::Unknown);
    }
    match first {
        K::SELECT | K::WITH | K::TABLE | K::VALUES | K::HELP | K::CHECKSUM => plain(read(facts)),
        K::SHOW => plain(show(head, facts)),
        K::DESC | K::DESCRIBE | K::EXPLAIN => plain(explain(head, 1, facts)),
        K::ANALYZE if dialect.is_mariadb() && second != K::TABLE => plain(explain(head, 1, facts)),
        K::LOAD if second == K::INDEX => commits(Class::Administration),
        K::INSERT | K::UPDATE | K::DELETE | K::REPLACE | K::LOAD | K::BINLOG => plain(Class::Write),
        K::DROP if second == K::PREPARE => plain(Class::Deallocate),
        K::CREATE
        | K::DROP
        | K::ALTER
        | K::RENAME
        | K::TRUNCATE
        | K::GRANT
        | K::REVOKE
        | K::IMPORT => (Class::Ddl, tables(head)),
        K::BEGIN if head.length() == 1 || second == K::WORK => commits(Class::Begin),
        K::START if second == K::TRANSACTION => (Class::Begin, transaction(head)),
        K::BEGIN | K::IF | K::CASE | K::LOOP | K::WHILE | K::REPEAT | K::FOR | K::DECLARE => {
            plain(Class::Compound)
        }
        K::COMMIT => (Class::Commit, end(head)),
        K::ROLLBACK if head.has(K::TO) => plain(Class::Savepoint),
        K::ROLLBACK => (Class::Rollback, end(head)),
        K::SAVEPOINT | K::RELEASE => plain(Class::Savepoint),
        K::SET => set(head),
        K::USE => plain(Class::Use),
        K::PREPARE | K::EXECUTE | K::DEALLOCATE => prepared(head),
        K::CALL => plain(Class::Call),
        K::DO => plain(Class::Do),
        K::HANDLER => (Class::Handler, handler(head)),
        K::LOCK | K::BACKUP => commits(Class::LockTables),
        K::UNLOCK => {
            let tables = matches!(second, K::TABLES | K::TABLE);
            (Class::UnlockTables, Facts::ENDS.only_if(tables))
        }
        K::FLUSH => (Class::Flush, flush(head, facts)),
        K::KILL => plain(Class::Kill),
        K::XA => (Class::Xa, xa(second)),
        K::GET => plain(Class::Diagnostics),
        K::ANALYZE
        | K::OPTIMIZE
        | K::REPAIR
        | K::CHECK
        | K::CACHE
        | K::RESET
        | K::PURGE
        | K::CHANGE
        | K::START
        | K::STOP
        | K::INSTALL
        | K::UNINSTALL
        | K::CLONE
        | K::RESTART
        | K::SHUTDOWN
        | K::SIGNAL
        | K::RESIGNAL => commits(Class::Administration),
        _ if head.length() == 0 => plain(Class::Empty),
        _ => plain(Class::Unknown),
    }
}

/// What begins as a read.
fn read(facts: Facts) -> Class {
    if facts.has(Facts::WRITE_WORD) {
        Class::Write
    } else if facts.has(Facts::INTO) {
        Class::SelectInto
    } else if facts.has(Facts::LOCKING) {
        Class::LockingRead
    } else {
        Class::Read
    }
}

fn show(head: &Head, facts: Facts) -> Class {
    let of_what = (1..4)
        .map(|index| head.keyword(index))
        .find(|word| !matches!(*word, K::FULL | K::EXTENDED));
    match of_what.unwrap_or(K::OTHER) {
        K::WARNINGS | K::ERRORS | K::COUNT => Class::Diagnostics,
        K::TABLES
        | K::COLUMNS
        | K::FIELDS
        | K::INDEX
        | K::INDEXES
        | K::KEYS
        | K::DATABASES
        | K::SCHEMAS
        | K::TRIGGERS
        | K::EVENTS
        | K::COLLATION
        | K::CHARACTER
        | K::CHARSET
        | K::CREATE
        | K::GRANTS
        | K::PRIVILEGES => read(facts),
        K::TABLE | K::PROCEDURE | K::FUNCTION if head.keyword(2) == K::STATUS => read(facts),
        _ => Class::ShowServer,
    }
}

/// After EXPLAIN and its likes.
fn explain(head: &Head, mut at: usize, facts: Facts) -> Class {
    loop {
        match head.keyword(at) {
            K::EXTENDED | K::PARTITIONS | K::ANALYZE => at += 1,
            // FORMAT = TREE
            K::FORMAT if head.at(at + 1).is_symbol(b'=') => at += 3,
            // Another connection's statement, or another schema.
            K::FOR => return Class::ShowServer,
            K::INSERT | K::REPLACE | K::UPDATE | K::DELETE | K::TRUNCATE => return Class::Write,
            _ => return read(facts),
        }
    }
}

/// Of CREATE, DROP and others.
fn tables(head: &Head) -> Facts {
    let temporary = head.keyword(1) == K::TEMPORARY
        || (head.keyword(1) == K::OR && head.keyword(3) == K::TEMPORARY);
    let drops = head.keyword(0) == K::DROP;
    let of_tables = matches!(
        head.keyword(1),
        K::TABLE | K::TABLES | K::TEMPORARY | K::SEQUENCE
    );
    Facts::TEMPORARY.only_if(temporary)
        | Facts::IMPLICIT_COMMIT.only_if(!temporary)
        | Facts::MAY_DROP_TEMPORARY.only_if(drops && of_tables)
}

/// Of START TRANSACTION.
fn transaction(head: &Head) -> Facts {
    access(head)
        | Facts::SNAPSHOT.only_if(head.has(K::SNAPSHOT))
        | Facts::IMPLICIT_COMMIT
        | Facts::ODD.only_if(head.is_full())
}

fn access(head: &Head) -> Facts {
    Facts::READ_ONLY.only_if(head.has_pair(K::READ, K::ONLY))
        | Facts::READ_WRITE.only_if(head.has_pair(K::READ, K::WRITE))
}

/// Of COMMIT and ROLLBACK.
fn end(head: &Head) -> Facts {
    Facts::CHAIN.only_if(head.has(K::CHAIN) && !head.has_pair(K::NO, K::CHAIN))
        | Facts::RELEASE.only_if(head.has(K::RELEASE) && !head.has_pair(K::NO, K::RELEASE))
}

fn set(head: &Head) -> (Class, Facts) {
    let transaction = (Class::Set, access(head));
    match (head.keyword(1), head.keyword(2)) {
        (K::TRANSACTION, _) => (Class::SetTransaction, access(head)),
        (K::GLOBAL, K::TRANSACTION) => (Class::SetGlobal, Facts::NONE),
        (K::SESSION | K::LOCAL, K::TRANSACTION) => transaction,
        (K::STATEMENT, _) => (Class::SetStatement, Facts::NONE),
        (K::PASSWORD, _) => (Class::SetGlobal, Facts::IMPLICIT_COMMIT),
        (K::DEFAULT, K::ROLE) => (Class::SetGlobal, Facts::IMPLICIT_COMMIT),
        (K::RESOURCE, _) => (Class::Administration, Facts::NONE),
        _ => (Class::Set, Facts::NONE),
    }
}

fn prepared(head: &Head) -> (Class, Facts) {
    let literal = |index| {
        let is_text = matches!(head.at(index).kind, super::token::Kind::Text);
        Facts::LITERAL.only_if(is_text && head.length() == index + 1)
    };
    match (head.keyword(0), head.keyword(1)) {
        // PREPARE name FROM 'text'
        (K::PREPARE, _) => (Class::Prepare, literal(3)),
        (K::EXECUTE, K::IMMEDIATE) => (Class::ExecuteImmediate, literal(2)),
        (K::EXECUTE, _) => (Class::Execute, Facts::NONE),
        _ => (Class::Deallocate, Facts::NONE),
    }
}

fn handler(head: &Head) -> Facts {
    let ends = head.at(head.length().saturating_sub(1)).is(K::CLOSE);
    Facts::ENDS.only_if(ends) | Facts::BEGINS.only_if(!ends && head.has(K::OPEN))
}

fn flush(head: &Head, facts: Facts) -> Facts {
    let export = head.has_pair(K::FOR, K::EXPORT);
    Facts::READ_LOCK.only_if(facts.has(Facts::LOCKING) || export) | Facts::IMPLICIT_COMMIT
}

fn xa(second: K) -> Facts {
    Facts::BEGINS.only_if(matches!(second, K::START | K::BEGIN))
        | Facts::ENDS.only_if(matches!(second, K::COMMIT | K::ROLLBACK))
}
