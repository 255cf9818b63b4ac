//! Which backends of a service get new connections.

use crate::config::model::Role;

/// What counts of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) role: Role,
    /// Ready, of some weight, and reachable.
    pub(super) is_usable: bool,
    /// By its checks.
    pub(super) is_up: bool,
}

/// Who gets new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rotation {
    /// By backend.
    pub(super) in_rotation: Vec<bool>,
    /// How many are up, of how many that could be used, where that is too few, so that those that
    /// are down are used as well.
    pub(super) panic: Option<(usize, usize)>,
}

/// Active backends that are up; without one, backups that are up. When of those of the role fewer
/// than this per cent are up, checks are not believed, and those that are down are used as well: it
/// is better to try them than to crush the last one.
pub(super) fn of(candidates: &[Candidate], min_up_percent: u8) -> Rotation {
    let usable = |role: Role| {
        candidates
            .iter()
            .filter(move |one| one.is_usable && one.role == role)
    };
    let up = |role: Role| usable(role).filter(|one| one.is_up).count();
    let is_any_usable = |role| usable(role).next().is_some();
    let panics = min_up_percent > 0;
    let role = if up(Role::Active) > 0 {
        Role::Active
    } else if up(Role::Backup) > 0 || !(panics && is_any_usable(Role::Active)) {
        Role::Backup
    } else {
        Role::Active
    };
    let (up, usable) = (up(role), usable(role).count());
    let panic = (up * 100 < usable * usize::from(min_up_percent)).then_some((up, usable));
    let is_in =
        |one: &Candidate| one.is_usable && one.role == role && (one.is_up || panic.is_some());
    Rotation {
        in_rotation: candidates.iter().map(is_in).collect(),
        panic,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `U`, `D`: an active backend that is up or down; `u`, `d`: a backup; `-`: not usable.
    fn row(backends: &str, min_up_percent: u8) -> (String, Option<(usize, usize)>) {
        let candidates: Vec<Candidate> = backends
            .chars()
            .map(|letter| Candidate {
                role: if letter.is_ascii_lowercase() {
                    Role::Backup
                } else {
                    Role::Active
                },
                is_usable: letter != '-',
                is_up: letter.eq_ignore_ascii_case(&'u') || letter == '-',
            })
            .collect();
        let Rotation { in_rotation, panic } = of(&candidates, min_up_percent);
        let shown = in_rotation
            .iter()
            .map(|is_in| if *is_in { '1' } else { '.' });
        (shown.collect(), panic)
    }

    #[test]
    fn rows() {
        for (backends, percent, expected, panic) in [
            ("UUD", 0, "11.", None),
            ("UUDu", 0, "11..", None),
            ("DDDu", 0, "...1", None),
            ("DDDd", 0, "....", None),
            ("---u", 0, "...1", None),
            ("", 50, "", None),
            // A half is not fewer than a half.
            ("UUDD", 50, "11..", None),
            ("UDDD", 50, "1111", Some((1, 4))),
            ("UDDDu", 50, "1111.", Some((1, 4))),
            ("DDDu", 50, "...1", None),
            ("DDDudd", 50, "...111", Some((1, 3))),
            ("DDDd", 50, "111.", Some((0, 3))),
            ("---d", 50, "...1", Some((0, 1))),
            ("UD--", 50, "1...", None),
            ("UUUD", 100, "1111", Some((3, 4))),
            ("UUUU", 100, "1111", None),
        ] {
            assert_eq!(
                row(backends, percent),
                (expected.to_owned(), panic),
                "{backends} {percent}"
            );
        }
    }
}
