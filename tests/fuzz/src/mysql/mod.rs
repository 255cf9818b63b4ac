//! What reads the bytes of MySQL's clients and servers.

pub(crate) mod gtid;
pub(crate) mod login;
pub(crate) mod reply;
pub(crate) mod statement;

/// Fails with a message where a condition does not hold.
macro_rules! demand {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}
pub(crate) use demand;

/// A byte that says how to go on, from the beginning of an input. An input that is too short has
/// zeros.
fn choice(input: &mut &[u8]) -> u8 {
    let Some((first, rest)) = input.split_first() else {
        return 0;
    };
    *input = rest;
    *first
}

/// Payloads out of an input: a byte of length before each; the last may be cut.
fn payloads(mut input: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while !input.is_empty() {
        let length = usize::from(choice(&mut input)).min(input.len());
        let (payload, rest) = input.split_at(length);
        all.push(payload);
        input = rest;
    }
    all
}
