//! `announce`.

use crate::config::{
    model::Announce,
    problem::{Place, Sink},
    raw,
};

/// A VIP of this very host's backends is always on `lo`.
pub(super) fn check(file: &raw::File, sink: &mut Sink) {
    let Some(app_host) = file.app_host.given() else {
        return;
    };
    let Some(vips) = app_host.value.vips.get() else {
        return;
    };
    for (index, service) in file.service.iter().enumerate() {
        let service = &service.value;
        let (Some(announce), Some(address)) = (service.announce.given(), service.address.get())
        else {
            continue;
        };
        let is_there = vips.value.iter().any(|vip| vip.value == address.value);
        if announce.value == Announce::Lo && is_there {
            let name = service.name.get().map(|name| name.value.as_str());
            let place = Place::TOP.element("service", index, name);
            let message = format!(
                "announce \"lo\" cannot take {} from lo, where [app_host] has it always: let the \
                 routing daemon announce other addresses there, or leave it out of vips",
                address.value
            );
            sink.problem(announce.at, &place, "announce", message);
        }
    }
}
