//! `[firewall]`.

use std::{path::PathBuf, sync::Arc};

use crate::config::{
    files::Needs,
    model::{
        Prefix,
        firewall::{Firewall, Lists, Rate},
    },
    problem::{Place, Sink},
    raw,
    schema::{Field, Located},
};

/// The firewall; nothing when there is a problem in the sink. What stands in files is added when they
/// are read.
pub(super) fn firewall(file: &raw::File, sink: &mut Sink) -> Option<Firewall> {
    let raw = &file.firewall.get()?.value;
    let place = Place::TOP.table("firewall");
    let mut files = |field: &Field<Vec<Located<PathBuf>>>, key: &str| {
        for file in field.get().into_iter().flat_map(|list| &list.value) {
            sink.needs(file.at, &place, key, &file.value, Needs::Prefixes);
        }
    };
    files(&raw.deny_files, "deny_files");
    files(&raw.allow_files, "allow_files");
    Some(Firewall {
        deny: lists(&raw.deny, &raw.deny_files)?,
        allow: lists(&raw.allow, &raw.allow_files)?,
        dry_run: raw.dry_run.get()?.value,
        rate: rate(&raw.rate, sink)?,
    })
}

/// The limit, if there is one.
fn rate(raw: &Field<raw::Rate>, sink: &mut Sink) -> Option<Option<Rate>> {
    let raw = &raw.get()?.value;
    let place = Place::TOP.table("firewall");
    let place = place.table("rate");
    let burst = match &raw.burst {
        Field::Given(burst) | Field::Default(burst) => Some(burst),
        Field::Absent => None,
        Field::Invalid => return None,
    };
    let new_connections = match &raw.new_connections {
        Field::Given(number) | Field::Default(number) => number.value,
        Field::Absent => {
            if let Some(burst) = burst {
                sink.warning(
                    burst.at,
                    &place,
                    "burst",
                    "burst does nothing without new_connections",
                );
            }
            return Some(None);
        }
        Field::Invalid => return None,
    };
    Some(Some(Rate {
        new_connections,
        burst: burst.map_or(new_connections, |burst| burst.value),
        prefix_v4: raw.prefix_v4.get()?.value,
        prefix_v6: raw.prefix_v6.get()?.value,
    }))
}

fn lists(
    prefixes: &Field<Vec<Located<Prefix>>>,
    files: &Field<Vec<Located<PathBuf>>>,
) -> Option<Lists> {
    let prefixes = prefixes.get()?.value.iter();
    let files = files.get()?.value.iter();
    Some(Lists {
        prefixes: prefixes.map(|one| one.value).collect(),
        files: files.map(|one| one.value.clone()).collect(),
        listed: Arc::default(),
    })
}
