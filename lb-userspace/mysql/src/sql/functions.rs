//! What the servers' own functions do. Everything that is not here may be somebody's stored
//! function, and may write.
//!
//! Names were taken from both servers by asking them for every word that their programs hold. A
//! name that is not there in the oldest of the servers is nobody's own there, and left out.

use super::dialect::{Dialect, Family};
use super::facts::Facts;
use super::table::Places;

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// Computes.
    Reads,
    /// Computes, but is the server's own only if its parenthesis follows at once: with a space in
    /// between it may be somebody's stored function.
    Attached,
    /// Computes, in MariaDB and in MySQL before 9.
    UntilNine,
    /// `GET_LOCK`.
    TakesLock,
    /// `RELEASE_LOCK` and others.
    AsksLock,
    /// `RELEASE_ALL_LOCKS`.
    ReleasesAll,
    /// `LAST_INSERT_ID`.
    LastInsertId,
    /// `ROW_COUNT`.
    RowCount,
    /// `FOUND_ROWS`.
    FoundRows,
    /// Tells something of this server.
    ServerState,
    /// Waits for replication.
    Waits,
    /// `NEXTVAL`, `SETVAL`.
    Sequence,
    /// `CONNECTION_ID`.
    ConnectionId,
}

impl Function {
    /// What is known of a statement that calls it.
    pub(super) const fn facts(self) -> Facts {
        match self {
            Self::Reads | Self::Attached | Self::UntilNine => Facts::NONE,
            Self::TakesLock => Facts::TAKES_LOCK,
            Self::AsksLock => Facts::ASKS_LOCK,
            Self::ReleasesAll => Facts::RELEASES_ALL,
            Self::LastInsertId => Facts::LAST_INSERT_ID,
            Self::RowCount => Facts::ROW_COUNT,
            Self::FoundRows => Facts::FOUND_ROWS,
            Self::ServerState => Facts::SERVER_STATE,
            Self::Waits => Facts::WAITS,
            Self::Sequence => Facts::SEQUENCE,
            Self::ConnectionId => Facts::CONNECTION_ID,
        }
    }
}

/// A version that no server has.
const NEVER: u32 = u32::MAX;

/// What it is, and since when, in MySQL and in MariaDB.
#[derive(Clone, Copy)]
struct Rule(Function, u32, u32);

macro_rules! functions {
    ($($function:ident $mysql:tt $mariadb:tt: $($name:ident)*;)*) => {
        const NAMES: [&str; [$($(stringify!($name),)*)*].len()] = [$($(stringify!($name),)*)*];
        static RULES: [Rule; NAMES.len()] = [$($({
            let _ = stringify!($name);
            Rule(Function::$function, $mysql, $mariadb)
        },)*)*];
    };
}

functions! {
    Reads 0 0:
        abs acos addtime aes_decrypt aes_encrypt asin atan atan2 benchmark bin bit_count bit_length
        ceil ceiling char_length character_length coercibility compress concat concat_ws conv
        convert_tz cos cot crc32 current_date current_time current_timestamp
        current_user database date_format datediff dayname dayofmonth dayofweek dayofyear
        degrees elt exp export_set extractvalue field find_in_set floor from_base64 from_days
        from_unixtime greatest hex ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa instr is_ipv4
        is_ipv4_compat is_ipv4_mapped is_ipv6 isnull last_day lcase least length ln localtime
        localtimestamp locate log10 log2 lower lpad ltrim make_set makedate maketime
        mbrcontains mbrdisjoint mbrequals mbrintersects mbroverlaps mbrtouches mbrwithin
        monthname name_const nullif oct octet_length ord period_add period_diff pi pow power quote
        radians rand round rpad rtrim schema sec_to_time sha2 sign sin sleep soundex
        space sqrt st_area st_asbinary st_astext st_aswkb st_aswkt st_buffer st_centroid
        st_contains st_convexhull st_crosses st_difference st_dimension st_disjoint st_distance
        st_endpoint st_envelope st_equals st_exteriorring st_geomcollfromtext st_geomcollfromwkb
        st_geometrycollectionfromtext st_geometrycollectionfromwkb st_geometryfromtext
        st_geometryfromwkb st_geometryn st_geometrytype st_geomfromtext st_geomfromwkb
        st_interiorringn st_intersection st_intersects st_isclosed st_isempty st_issimple st_length
        st_linefromtext st_linefromwkb st_linestringfromtext st_linestringfromwkb st_mlinefromtext
        st_mlinefromwkb st_mpointfromtext st_mpointfromwkb st_mpolyfromtext st_mpolyfromwkb
        st_multilinestringfromtext st_multilinestringfromwkb st_multipointfromtext
        st_multipointfromwkb st_multipolygonfromtext st_multipolygonfromwkb st_numgeometries
        st_numinteriorrings st_numpoints st_overlaps st_pointfromtext st_pointfromwkb st_pointn
        st_polyfromtext st_polyfromwkb st_polygonfromtext st_polygonfromwkb st_srid st_startpoint
        st_symdifference st_touches st_union st_within st_x st_y str_to_date strcmp
        substring_index subtime tan time_format time_to_sec timediff to_base64 to_days
        to_seconds ucase uncompress uncompressed_length unhex unix_timestamp updatexml
        upper utc_date utc_time utc_timestamp uuid uuid_short weekday weekofyear yearweek
        ascii charset coalesce collation date day format get_format hour log microsecond minute
        month password quarter reverse second time timestamp timestampadd timestampdiff truncate user
        week weight_string year;
    // Not of MySQL 9, where they are a component's, if that is there.
    UntilNine 0 0: md5 sha sha1;
    // With a wrong number of arguments these are somebody's in MariaDB.
    Reads 0 NEVER:
        point linestring polygon multipoint multilinestring multipolygon geometrycollection;
    // Words of the grammar that are nobody's in either family, in front of a parenthesis.
    Reads 0 0:
        left right insert replace repeat mod char values convert match binary row decimal dec
        numeric double float int integer smallint tinyint bigint mediumint varchar varbinary nchar
        character varcharacter real bit;
    Reads 80000 100203:
        json_array json_array_append json_array_insert json_contains json_contains_path json_depth
        json_extract json_insert json_keys json_length json_merge json_object json_quote json_remove
        json_replace json_search json_set json_type json_unquote json_valid;
    Reads 80004 100300: json_merge_patch json_merge_preserve regexp_instr regexp_replace regexp_substr;
    Reads 80000 100500: st_asgeojson st_geomfromgeojson st_distance_sphere;
    Reads 80017 100900: json_overlaps;
    Reads 80003 101003: json_pretty;
    Reads 80021 100203: json_value;
    Reads 80004 NEVER: json_table;
    Reads 80000 101000: random_bytes;
    Reads 80000 100005: current_role;
    Attached 0 0:
        adddate avg bit_and bit_or bit_xor cast count curdate curtime date_add date_sub extract
        group_concat max mid min now position session_user std stddev stddev_pop stddev_samp subdate
        substr substring sum sysdate system_user trim var_pop var_samp variance;
    Attached 80000 100200:
        cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank
        row_number;
    Attached 80000 100500: json_arrayagg json_objectagg;
    // MySQL alone.
    Reads 80000 NEVER:
        any_value bin_to_uuid uuid_to_bin is_uuid grouping gtid_subset gtid_subtract
        json_storage_size mbrcoveredby mbrcovers regexp_like st_buffer_strategy st_geohash
        st_geomcollfromtxt st_isvalid st_latfromgeohash st_longfromgeohash st_makeenvelope
        st_numinteriorring st_pointfromgeohash st_simplify st_swapxy st_validate st_latitude
        st_longitude st_transform geomcollection statement_digest statement_digest_text
        validate_password_strength;
    Reads 80017 NEVER:
        json_schema_valid json_schema_validation_report json_storage_free format_bytes
        format_pico_time;
    Reads 80024 NEVER:
        st_frechetdistance st_hausdorffdistance st_lineinterpolatepoint st_lineinterpolatepoints
        st_pointatdistance;
    Attached 80024 NEVER: st_collect;
    Reads 90000 NEVER: string_to_vector to_vector vector_to_string from_vector vector_dim;
    Reads 90704 NEVER: etag;
    // MariaDB alone.
    Reads NEVER 100000:
        area asbinary astext aswkb aswkt boundary buffer centroid column_check column_exists
        column_json column_list contains convexhull crosses des_decrypt des_encrypt dimension
        disjoint encode encrypt endpoint envelope equals exteriorring geomcollfromtext
        geomcollfromwkb geometrycollectionfromtext geometrycollectionfromwkb geometryfromtext
        geometryfromwkb geometryn geometrytype geomfromtext geomfromwkb glength interiorringn
        intersects isclosed isempty isring issimple linefromtext linefromwkb linestringfromtext
        linestringfromwkb mbrequal mlinefromtext mlinefromwkb mpointfromtext mpointfromwkb
        mpolyfromtext mpolyfromwkb multilinestringfromtext multilinestringfromwkb
        multipointfromtext multipointfromwkb multipolygonfromtext multipolygonfromwkb numgeometries
        numinteriorrings numpoints old_password overlaps pointfromtext pointfromwkb pointn
        pointonsurface polyfromtext polyfromwkb polygonfromtext polygonfromwkb srid st_boundary
        st_isring st_pointonsurface st_relate startpoint touches within x y;
    Reads NEVER 100203: json_compact json_detailed json_exists json_loose json_query;
    Reads NEVER 100301: chr lengthb nvl nvl2;
    Attached NEVER 100303: median percentile_cont percentile_disc;
    Attached NEVER 100000: decode;
    Reads NEVER 100700: json_normalize json_equals sformat natural_sort_key sys_guid;
    Attached NEVER 100700: add_months;
    Reads NEVER 100700: to_char rownum;
    Reads NEVER 100800: crc32c;
    // What is more than reading, or is about the server or the session.
    TakesLock 0 0: get_lock;
    AsksLock 0 0: release_lock is_free_lock is_used_lock;
    ReleasesAll 0 0: release_all_locks;
    LastInsertId 0 0: last_insert_id;
    RowCount 0 0: row_count;
    FoundRows 0 0: found_rows;
    ConnectionId 0 0: connection_id;
    ServerState 0 0: version load_file;
    ServerState 80000 NEVER: ps_current_thread_id ps_thread_id icu_version roles_graphml;
    ServerState NEVER 100000: binlog_gtid_pos decode_histogram wsrep_last_seen_gtid
        wsrep_last_written_gtid;
    Waits 0 0: master_pos_wait;
    Waits 80000 NEVER: source_pos_wait wait_for_executed_gtid_set;
    Waits NEVER 100000: master_gtid_wait wsrep_sync_wait_upto_gtid;
    Sequence NEVER 100300: nextval setval lastval;
}

static PLACES: Places<2048> = Places::new(&NAMES);

/// What a function of this name does, if it is every server's own.
pub(super) fn find(name: &[u8], dialect: &Dialect) -> Option<Function> {
    let Rule(function, mysql, mariadb) = PLACES.find(&NAMES, name).and_then(|at| RULES.get(at))?;
    let since = match dialect.family {
        Family::MySql => *mysql,
        Family::MariaDb => *mariadb,
    };
    let gone = *function == Function::UntilNine
        && dialect.family == Family::MySql
        && dialect.newest >= 90_000;
    (dialect.oldest >= since && !gone).then_some(*function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_family_and_the_version() {
        let mysql = Dialect::new(Family::MySql, 80_020);
        let mariadb = Dialect::new(Family::MariaDb, 101_119);
        assert_eq!(find(b"ABS", &mysql), Some(Function::Reads));
        assert_eq!(find(b"json_value", &mysql), None);
        assert_eq!(find(b"json_value", &mariadb), Some(Function::Reads));
        assert_eq!(find(b"nextval", &mysql), None);
        assert_eq!(find(b"NextVal", &mariadb), Some(Function::Sequence));
        assert_eq!(find(b"mine", &mysql), None);
        assert_eq!(find(b"md5", &mysql), Some(Function::UntilNine));
        assert_eq!(find(b"md5", &Dialect::new(Family::MySql, 90_704)), None);
        assert_eq!(find(b"point", &mysql), Some(Function::Reads));
        assert_eq!(find(b"point", &mariadb), None);
    }

    #[test]
    fn no_name_stands_there_twice() {
        for (index, name) in NAMES.iter().enumerate() {
            assert_eq!(PLACES.find(&NAMES, name.as_bytes()), Some(index), "{name}");
        }
    }
}
