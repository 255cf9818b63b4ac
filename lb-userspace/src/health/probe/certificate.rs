//! When a certificate ends: of all that stands in it, the one thing that surprises operators.

use std::time::{Duration, SystemTime};

use lb_mysql::auth::der::{INTEGER, SEQUENCE, element};

const DAY: u64 = 86_400;

/// The end of validity of a certificate in DER.
pub(super) fn end(der: &[u8]) -> Option<SystemTime> {
    const VERSION: u8 = 0xa0;
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let (certificate, _) = element(SEQUENCE, der)?;
    let (mut rest, _) = element(SEQUENCE, certificate)?;
    if let Some((_, after)) = element(VERSION, rest) {
        rest = after;
    }
    // Serial number, algorithm, issuer.
    for tag in [INTEGER, SEQUENCE, SEQUENCE] {
        (_, rest) = element(tag, rest)?;
    }
    let (validity, _) = element(SEQUENCE, rest)?;
    let time = |der| {
        element(UTC_TIME, der)
            .map(|(time, rest)| (time, 2, rest))
            .or_else(|| element(GENERALIZED_TIME, der).map(|(time, rest)| (time, 4, rest)))
    };
    let (_, _, rest) = time(validity)?;
    let (end, year_digits, _) = time(rest)?;
    parse_time(std::str::from_utf8(end).ok()?, year_digits)
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn parse_time(text: &str, year_digits: usize) -> Option<SystemTime> {
    let digits = text.strip_suffix('Z')?;
    let is_whole = digits.len() == year_digits + 10;
    if !is_whole || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = digits.split_at_checked(year_digits)?;
    let year: u64 = year.parse().ok()?;
    let year = match year_digits {
        2 if year < 50 => 2000 + year,
        2 => 1900 + year,
        _ => year,
    };
    let number = |index: usize| rest.get(index * 2..index * 2 + 2)?.parse::<u64>().ok();
    let (month, day) = (number(0)?, number(1)?);
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=31).contains(&day);
    let days = is_date.then(|| days_since_1970(year, month, day))?;
    let seconds = days * DAY + number(2)? * 3600 + number(3)? * 60 + number(4)?;
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// Of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - 719_468
}

/// "certificate ends in 30 days", "certificate ended 5 hours ago"
pub(super) fn in_words(end: SystemTime, now: SystemTime) -> String {
    let span = |time: Duration| {
        let seconds = time.as_secs();
        let (count, unit) = match seconds {
            0..7200 => (seconds / 60, "minute"),
            7200..172_800 => (seconds / 3600, "hour"),
            _ => (seconds / DAY, "day"),
        };
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {unit}{plural}")
    };
    match end.duration_since(now) {
        Ok(left) => format!("certificate ends in {}", span(left)),
        Err(past) => format!("certificate ended {} ago", span(past.duration())),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.not_before = date_time_ymd(1999, 12, 31);
        params.not_after = date_time_ymd(year, month, day);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_is_read_from_real_certificates() {
        for (year, month, day) in [
            (2000, 2, 29),
            (2026, 12, 31),
            (2038, 1, 19),
            (2049, 12, 31),
            (2050, 1, 1),
            (2100, 3, 1),
            (9999, 12, 31),
        ] {
            let expected = date_time_ymd(year, month, day).unix_timestamp();
            let found = end(&made(year, month, day)).unwrap();
            let found = found.duration_since(SystemTime::UNIX_EPOCH).unwrap();
            assert_eq!(found.as_secs() as i64, expected, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_left_is_told_in_the_unit_that_fits() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let hour = Duration::from_secs(3600);
        for (end, expected) in [
            (now + hour * 24 * 30, "certificate ends in 30 days"),
            (now + hour * 47, "certificate ends in 47 hours"),
            (now + hour, "certificate ends in 60 minutes"),
            (
                now - Duration::from_secs(61),
                "certificate ended 1 minute ago",
            ),
            (now - hour * 24 * 3, "certificate ended 3 days ago"),
        ] {
            assert_eq!(in_words(end, now), expected);
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_certificate_and_no_panic(
            cut in 0..400_usize,
            at in 0..400_usize,
            byte in any::<u8>(),
        ) {
            let mut der = made(2030, 1, 1);
            let at = at % der.len();
            der[at] = byte;
            der.truncate(der.len().saturating_sub(cut));
            let _ = end(&der);
        }
    }
}
