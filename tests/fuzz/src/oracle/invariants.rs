//! What holds of the tables after every frame.

use std::collections::HashMap;

use lb_common::{
    abi::Ticks,
    flow::{FlowView, Place},
    host::HostTables,
    ports,
    tables::Tables,
    verdict::Event,
};

use super::demand;

/// When stories begin.
const START: Ticks = Ticks(1000);

/// No two flows can be taken for each other, and what flows hold is theirs.
pub(super) fn hold(tables: &HostTables) -> Result<(), String> {
    let views: Vec<FlowView> = tables.views().collect();
    // Not looked for yet: a flow that is rescheduled, or that comes back after it had expired or was
    // closed, may meet another one of its client's port at its backend.
    if tables.event(Event::FlowRescheduled) == 0 && tables.now.get() == START {
        unambiguous(tables, &views)?;
    }
    ports_are_owned(tables, &views)
}

/// A reply tells its flow by backend and peer: of live flows there is only one.
fn unambiguous(tables: &HostTables, views: &[FlowView]) -> Result<(), String> {
    let now = tables.now.get();
    let mut seen = HashMap::new();
    for view in views
        .iter()
        .filter(|view| !view.is_closed && !view.is_expired(now))
    {
        let flow = &view.flow;
        let backend = tables.backends[flow.backend as usize];
        let path = flow.path;
        if path == lb_common::flow::Path::ONE_SIDED {
            continue;
        }
        let peer = if path.has_source() {
            (tables.sources[usize::from(path.address())], path.port())
        } else {
            (flow.key.client, flow.key.client_port)
        };
        let tuple = (flow.key.protocol, backend.address, backend.port, peer);
        if let Some(other) = seen.insert(tuple, flow) {
            return Err(format!(
                "replies of two flows cannot be told apart: {other:?} and {flow:?}"
            ));
        }
    }
    Ok(())
}

/// Every source port in use is marked as its flow's.
fn ports_are_owned(tables: &HostTables, views: &[FlowView]) -> Result<(), String> {
    for flow in views.iter().map(|view| &view.flow) {
        let path = flow.path;
        if !path.has_source() {
            continue;
        }
        let (source, protocol) = (u32::from(path.address()), flow.key.protocol);
        let port = u16::from_be(path.port());
        let owner = tables.port_owner(ports::owner_index(source, protocol, port));
        let place = Place::of(
            &tables.settings,
            flow.key.client,
            flow.key.client_port,
            protocol,
        );
        demand(
            owner.is_some_and(|owner| owner.load() == ports::mark(place)),
            "a flow's source port is marked as another's",
        )?;
        let word = tables.port_word(ports::word_index(source, protocol, port));
        demand(
            word.is_some_and(|word| word.load() & 1 << (port % 64) != 0),
            "a flow's source port is free",
        )?;
    }
    Ok(())
}
