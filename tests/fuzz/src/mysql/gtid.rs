//! Sets of transactions, from texts of servers.

use lb_mysql::gtid::{Family, GtidSet, from_tracker, has_statement};

use super::{choice, demand};
use crate::Signature;

pub(crate) fn run(mut input: &[u8]) -> Result<Signature, String> {
    let how = choice(&mut input);
    let family = if how & 1 == 0 {
        Family::MySql
    } else {
        Family::MariaDb
    };
    let read = from_tracker(input).is_ok();
    let mut signature = vec![u32::from(how & 1), 2 + u32::from(read)];
    let Ok(text) = std::str::from_utf8(input) else {
        return Ok(signature);
    };
    let (left, right) = text.split_once('|').unwrap_or((text, text));
    let (a, b) = match (GtidSet::parse(family, left), GtidSet::parse(family, right)) {
        (Ok(a), Ok(b)) => (a, b),
        (a, b) => {
            for (result, text) in [(a, left), (b, right)] {
                let Err(error) = result else { continue };
                demand!(
                    error.at <= text.len() && error.to_string().len() < 4096,
                    "{error}"
                );
            }
            signature.push(4);
            return Ok(signature);
        }
    };
    for set in [&a, &b] {
        let again = GtidSet::parse(family, &set.to_string());
        demand!(again.as_ref() == Ok(set), "{set} is read as {again:?}");
        demand!(set.contains(set), "{set} is not in itself");
        demand!(
            set.without(set).is_empty(),
            "{set} without itself is not empty"
        );
    }
    let mut both = a.clone();
    both.union(&b);
    demand!(
        both.contains(&a) && both.contains(&b),
        "{a} and {b}: {both} lacks some"
    );
    let rest = a.without(&b);
    demand!(
        rest.is_empty() == b.contains(&a),
        "{a} without {b} is {rest}"
    );
    let mut again = b.clone();
    again.union(&rest);
    demand!(
        again.contains(&both) && both.contains(&again),
        "{a} without {b} is {rest}, and both are {both}"
    );
    if family == Family::MySql {
        demand!(!rest.meets(&b), "{a} without {b} is {rest}");
    }
    demand!(
        both.is_empty() || has_statement(&both).is_some_and(|sql| sql.len() < 1 << 16),
        "no question for {both}"
    );
    signature.push(5 + u32::from(a.meets(&b)));
    signature.push(10 + both.to_string().len().min(60) as u32);
    Ok(signature)
}
