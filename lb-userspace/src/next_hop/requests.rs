//! What is asked of the kernel over rtnetlink, and how its answers are read.

use std::{io, net::IpAddr};

use futures_util::StreamExt as _;
use rtnetlink::{
    Handle,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        neighbour::{
            NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags,
            NeighbourMessage, NeighbourState,
        },
        route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia},
    },
};

use super::{
    Link, Mac,
    tracker::{NeighbourKey, Reachability, Route},
};

const FORBIDDEN: &str = "the routing table forbids it";

/// What the kernel says of a neighbour.
#[derive(Clone, Copy, Debug)]
pub(super) struct NeighbourNews {
    pub(super) key: NeighbourKey,
    pub(super) reachability: Reachability,
    pub(super) is_managed: bool,
}

/// All interfaces.
pub(super) async fn links(handle: &Handle) -> io::Result<Vec<Link>> {
    let messages: Vec<_> = handle.link().get().execute().collect().await;
    let mut links = Vec::with_capacity(messages.len());
    for message in messages {
        links.extend(Link::from_message(&message.map_err(to_io)?));
    }
    Ok(links)
}

/// The way to an address.
pub(super) async fn route(handle: &Handle, address: IpAddr) -> Route {
    let mut message = RouteMessage::default();
    (
        message.header.address_family,
        message.header.destination_prefix_length,
    ) = match address {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    let mut answers = Box::pin(handle.route().get(message).execute());
    match answers.next().await {
        Some(Ok(message)) => read_route(address, &message),
        Some(Err(error)) => {
            let error = to_io(error);
            let reason = match error.raw_os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH) => "no route".to_owned(),
                Some(libc::EACCES | libc::EINVAL) => FORBIDDEN.to_owned(),
                _ => format!("the route cannot be looked up: {error}"),
            };
            Route::None { reason }
        }
        None => Route::None {
            reason: "the kernel said nothing about the route".to_owned(),
        },
    }
}

fn read_route(address: IpAddr, message: &RouteMessage) -> Route {
    let none = |reason: &str| Route::None {
        reason: reason.to_owned(),
    };
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "no other type leads to another host"
    )]
    match message.header.kind {
        RouteType::Unicast => {}
        RouteType::Local => return Route::Local,
        _ => return none(FORBIDDEN),
    }
    let mut ifindex = None;
    let mut gateway = None;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the kernel's many attributes these are the ones that matter"
    )]
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(v4))
            | RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some(IpAddr::V4(*v4)),
            RouteAttribute::Gateway(RouteAddress::Inet6(v6))
            | RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some(IpAddr::V6(*v6)),
            RouteAttribute::Encap(_) => {
                return none("the route leads into a tunnel");
            }
            _ => {}
        }
    }
    match ifindex {
        Some(ifindex) => Route::Via(NeighbourKey {
            ifindex,
            address: gateway.unwrap_or(address),
        }),
        None => none("the route names no interface"),
    }
}

/// What the kernel knows of a neighbour now.
pub(super) async fn neighbour(handle: &Handle, key: NeighbourKey) -> Reachability {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(about(key)));
    request.header.flags = NLM_F_REQUEST;
    let Ok(mut answers) = handle.clone().request(request) else {
        return Reachability::Unknown;
    };
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)) =
            answer.payload
        {
            return read_neighbour(&message)
                .map_or(Reachability::Unknown, |news| news.reachability);
        }
    }
    Reachability::Unknown
}

/// All neighbours the kernel knows.
pub(super) async fn neighbours(handle: &Handle) -> io::Result<Vec<NeighbourNews>> {
    let mut all = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let request = handle.neighbours().get().set_address_family(family);
        let messages: Vec<_> = request.execute().collect().await;
        for message in messages {
            all.extend(read_neighbour(&message.map_err(to_io)?));
        }
    }
    Ok(all)
}

/// Reads a message about a neighbour; `None` if it is about something else, such as a bridge's
/// forwarding table.
pub(super) fn read_neighbour(message: &NeighbourMessage) -> Option<NeighbourNews> {
    if !matches!(
        message.header.family,
        AddressFamily::Inet | AddressFamily::Inet6
    ) || message.header.flags.contains(NeighbourFlags::Proxy)
    {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    let mut is_managed = false;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the kernel's many attributes these are the ones that matter"
    )]
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = Mac::try_from(bytes.as_slice()).ok();
            }
            NeighbourAttribute::ExtFlags(flags) => {
                is_managed = flags.contains(NeighbourExtFlags::Managed);
            }
            _ => {}
        }
    }
    let reachability = match (message.header.state, mac) {
        (NeighbourState::Permanent | NeighbourState::Noarp, Some(mac)) => Reachability::Static(mac),
        (
            NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe,
            Some(mac),
        ) => Reachability::Usable(mac),
        (NeighbourState::Failed, _) => Reachability::Failed,
        (NeighbourState::Incomplete, _) => Reachability::Asking,
        _ => Reachability::Unknown,
    };
    let key = NeighbourKey {
        ifindex: message.header.ifindex,
        address: address?,
    };
    Some(NeighbourNews {
        key,
        reachability,
        is_managed,
    })
}

/// Has the kernel resolve a neighbour, and keep it fresh if it can (Linux 5.16); older kernels
/// ignore that part.
pub(super) async fn use_neighbour(handle: &Handle, key: NeighbourKey) -> io::Result<()> {
    change(
        handle,
        with_flags(key, NeighbourExtFlags::Managed),
        NLM_F_CREATE,
    )
    .await
}

/// Takes back the request to keep a neighbour fresh.
pub(super) async fn release_neighbour(handle: &Handle, key: NeighbourKey) -> io::Result<()> {
    change(handle, with_flags(key, NeighbourExtFlags::empty()), 0).await
}

/// Makes the kernel doubt a neighbour's MAC, so that the next use asks everyone for it.
pub(super) async fn doubt_neighbour(handle: &Handle, key: NeighbourKey) -> io::Result<()> {
    let mut message = about(key);
    message.header.state = NeighbourState::Failed;
    change(handle, message, NLM_F_REPLACE).await
}

fn with_flags(key: NeighbourKey, ext_flags: NeighbourExtFlags) -> NeighbourMessage {
    let mut message = about(key);
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::ExtFlags(ext_flags));
    message
}

fn about(key: NeighbourKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = key.ifindex;
    let address = match key.address {
        IpAddr::V4(v4) => {
            message.header.family = AddressFamily::Inet;
            NeighbourAddress::Inet(v4)
        }
        IpAddr::V6(v6) => {
            message.header.family = AddressFamily::Inet6;
            NeighbourAddress::Inet6(v6)
        }
    };
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    message
}

async fn change(handle: &Handle, message: NeighbourMessage, flags: u16) -> io::Result<()> {
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNeighbour(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut answers = handle.clone().request(request).map_err(to_io)?;
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && error.code.is_some()
        {
            return Err(error.to_io());
        }
    }
    Ok(())
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error.to_string())
    }
}
