//! The words that decide what a statement is. All other words are [`Keyword::OTHER`].

use super::table::Places;

/// A word of the language, or none of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keyword(u8);

macro_rules! keywords {
    ($($name:ident $word:literal)*) => {
        /// For the order of the words only.
        #[expect(non_camel_case_types, clippy::upper_case_acronyms, reason = "named as the constants")]
        #[derive(Clone, Copy)]
        enum Number { $($name),* }

        const WORDS: [&str; [$(Number::$name),*].len()] = [$($word),*];

        #[allow(missing_docs, dead_code, reason = "each is the word that it is named after")]
        impl Keyword {
            $(pub const $name: Self = Self(Number::$name as u8);)*
        }
    };
}

keywords! {
    SELECT "select" FROM "from" WHERE "where" AND "and" OR "or" IN "in" AS "as" BY "by" ON "on"
    NOT "not" IS "is" NULL "null" LIMIT "limit" ORDER "order" GROUP "group" JOIN "join" LEFT "left"
    VALUES "values" VALUE "value" SET "set" INTO "into" WITH "with" RECURSIVE "recursive"
    TABLE "table" TABLES "tables" UNION "union" EXCEPT "except" INTERSECT "intersect"
    EXISTS "exists" ANY "any" SOME "some" ALL "all" DISTINCT "distinct" DISTINCTROW "distinctrow"
    USING "using" BETWEEN "between" LIKE "like" RLIKE "rlike" REGEXP "regexp" DIV "div" XOR "xor"
    CASE "case" WHEN "when" THEN "then" ELSE "else" END "end" INTERVAL "interval" HAVING "having"
    OVER "over" WINDOW "window" PARTITION "partition" AGAINST "against" LATERAL "lateral" ROW "row"
    INDEX "index" KEY "key" COLUMNS "columns" OF "of" DUAL "dual" ESCAPE "escape" BINARY "binary"
    STRAIGHT_JOIN "straight_join" ROLLUP "rollup" SOUNDS "sounds" MEMBER "member" OJ "oj"
    ASC "asc" DESC "desc" NESTED "nested" PATH "path" FILTER "filter"
    INSERT "insert" UPDATE "update" DELETE "delete" REPLACE "replace" TRUNCATE "truncate"
    CREATE "create" DROP "drop" ALTER "alter" RENAME "rename" GRANT "grant" REVOKE "revoke"
    CALL "call" DO "do" LOAD "load" IMPORT "import" HANDLER "handler" LOCK "lock" UNLOCK "unlock"
    FLUSH "flush" KILL "kill" XA "xa" SHOW "show" DESCRIBE "describe" EXPLAIN "explain"
    ANALYZE "analyze" HELP "help" CHECKSUM "checksum" USE "use" PREPARE "prepare"
    EXECUTE "execute" DEALLOCATE "deallocate" IMMEDIATE "immediate" BEGIN "begin" START "start"
    COMMIT "commit" ROLLBACK "rollback" SAVEPOINT "savepoint" RELEASE "release" GET "get"
    SIGNAL "signal" RESIGNAL "resignal" OPTIMIZE "optimize" REPAIR "repair" CHECK "check"
    CACHE "cache" RESET "reset" PURGE "purge" CHANGE "change" STOP "stop" INSTALL "install"
    UNINSTALL "uninstall" CLONE "clone" RESTART "restart" SHUTDOWN "shutdown" BINLOG "binlog"
    BACKUP "backup" RETURN "return" IF "if" LOOP "loop" WHILE "while" REPEAT "repeat" FOR "for"
    DECLARE "declare" LEAVE "leave" ITERATE "iterate" OPEN "open" CLOSE "close" FETCH "fetch"
    TRANSACTION "transaction" WORK "work" READ "read" WRITE "write" ONLY "only"
    CONSISTENT "consistent" SNAPSHOT "snapshot" CHAIN "chain" NO "no" TO "to" ATOMIC "atomic"
    ISOLATION "isolation" LEVEL "level" GLOBAL "global" SESSION "session" LOCAL "local"
    PERSIST "persist" PERSIST_ONLY "persist_only" PASSWORD "password" ROLE "role"
    RESOURCE "resource" STATEMENT "statement" NAMES "names" CHARACTER "character"
    CHARSET "charset" CHAR "char" DEFAULT "default" TEMPORARY "temporary" PROCEDURE "procedure"
    FUNCTION "function" TRIGGER "trigger" EVENT "event" PACKAGE "package" SEQUENCE "sequence"
    VIEW "view" DATABASE "database" SCHEMA "schema" SHARE "share" MODE "mode" NEXT "next"
    PREVIOUS "previous" NEXTVAL "nextval" LASTVAL "lastval" CURRVAL "currval" SETVAL "setval"
    SQL_CALC_FOUND_ROWS "sql_calc_found_rows" DIAGNOSTICS "diagnostics" WARNINGS "warnings"
    ERRORS "errors" COUNT "count" FULL "full" EXTENDED "extended" FORMAT "format"
    PARTITIONS "partitions" CONNECTION "connection" DATABASES "databases" SCHEMAS "schemas"
    FIELDS "fields" INDEXES "indexes" KEYS "keys" TRIGGERS "triggers" EVENTS "events"
    COLLATION "collation" GRANTS "grants" PRIVILEGES "privileges" STATUS "status"
    PERFORMANCE_SCHEMA "performance_schema" SYS "sys" MYSQL "mysql"
    INFORMATION_SCHEMA "information_schema" INSTANCE "instance" PREV "prev" FIRST "first"
    LAST "last" QUERY "query" MATCH "match" COLLATE "collate" TYPE "type" RETURNING "returning"
    EXPORT "export" TRADITIONAL "traditional" OFFSET "offset" INNER "inner" CROSS "cross"
    OUTER "outer" RIGHT "right" NATURAL "natural" TRUE "true" FALSE "false" CURRENT "current" REPEATABLE "repeatable" COMMITTED "committed"
    UNCOMMITTED "uncommitted" SERIALIZABLE "serializable" DEFINER "definer" AGGREGATE "aggregate"
}

static PLACES: Places<1024> = Places::new(&WORDS);

impl Keyword {
    /// A word that decides nothing.
    pub const OTHER: Self = Self(u8::MAX);

    /// Which it is, in any case of letters.
    #[must_use]
    pub fn of(word: &[u8]) -> Self {
        // No table holds more than 254 words.
        PLACES
            .find(&WORDS, word)
            .and_then(|index| u8::try_from(index).ok())
            .map_or(Self::OTHER, Self)
    }
}

const _: () = assert!(WORDS.len() < u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_and_once() {
        for (index, word) in WORDS.iter().enumerate() {
            assert_eq!(usize::from(Keyword::of(word.as_bytes()).0), index, "{word}");
            let upper = word.to_ascii_uppercase();
            assert_eq!(
                usize::from(Keyword::of(upper.as_bytes()).0),
                index,
                "{word}"
            );
        }
        assert_eq!(Keyword::of(b"customers"), Keyword::OTHER);
        assert_eq!(Keyword::of("select\u{e9}".as_bytes()), Keyword::OTHER);
    }
}
