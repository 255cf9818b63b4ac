//! The other end of a veth pair, which mostly is in another network namespace.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    thread,
};

use futures_util::StreamExt as _;
use nix::{
    net::if_::if_indextoname,
    sched::{CloneFlags, setns},
};
use rtnetlink::{
    Handle,
    packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::LinkAttribute,
        nsid::{NsidAttribute, NsidMessage},
    },
};

use super::ethtool::{self, Driver};
use crate::next_hop;

/// The other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) driver: Driver,
    pub(super) has_xdp: bool,
}

/// The other end; nothing where it cannot be looked at.
pub(super) fn peer_of(ifindex: u32) -> Option<Peer> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let (peer, namespace) = runtime.block_on(find(ifindex)).ok()??;
    let look = move || {
        let name = if_indextoname(peer).ok()?.into_string().ok()?;
        let driver = ethtool::driver(&name)?;
        (driver.name == "veth").then(|| Peer {
            has_xdp: has_xdp(peer),
            name,
            driver,
        })
    };
    let Some(namespace) = namespace else {
        return look();
    };
    // In a thread of its own, which ends there.
    let there = thread::spawn(move || {
        setns(&namespace, CloneFlags::CLONE_NEWNET).ok()?;
        look()
    });
    there.join().ok()?
}

/// Whether an XDP program is on an interface of this thread's namespace.
fn has_xdp(ifindex: u32) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let links = runtime.and_then(|runtime| runtime.block_on(next_hop::links()));
    let mut all = links.into_iter().flatten();
    all.any(|link| link.ifindex == ifindex && link.xdp.is_some())
}

/// The index of the other end, and the namespace it is in, if that is another.
async fn find(ifindex: u32) -> io::Result<Option<(u32, Option<File>)>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let found = find_by(&handle, ifindex).await;
    connection.abort();
    Ok(found)
}

async fn find_by(handle: &Handle, ifindex: u32) -> Option<(u32, Option<File>)> {
    let mut answers = Box::pin(handle.link().get().match_index(ifindex).execute());
    let message = answers.next().await?.ok()?;
    let peer = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::Link(peer) = attribute {
            Some(*peer)
        } else {
            None
        }
    })?;
    let wanted = message.attributes.iter().find_map(|attribute| {
        if let LinkAttribute::LinkNetNsId(id) = attribute {
            Some(*id)
        } else {
            None
        }
    });
    let Some(wanted) = wanted else {
        return Some((peer, None));
    };
    for namespace in namespaces() {
        if id_of(handle, &namespace).await == Some(wanted) {
            return Some((peer, Some(namespace)));
        }
    }
    None
}

/// What this namespace calls another.
async fn id_of(handle: &Handle, namespace: &File) -> Option<i32> {
    let mut ask = NsidMessage::default();
    let descriptor = u32::try_from(namespace.as_raw_fd()).ok()?;
    ask.attributes.push(NsidAttribute::Fd(descriptor));
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(ask));
    request.header.flags = NLM_F_REQUEST;
    let mut answers = handle.clone().request(request).ok()?;
    let answer = answers.next().await?;
    let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) = answer.payload else {
        return None;
    };
    message.attributes.iter().find_map(|attribute| {
        if let NsidAttribute::Id(id) = attribute {
            Some(*id)
        } else {
            None
        }
    })
}

/// Every network namespace that has a name or a process, each once.
fn namespaces() -> impl Iterator<Item = File> {
    let files = |folder: &str, suffix: &str| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().join(suffix)).collect()
    };
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    paths.extend(files("/proc", "ns/net"));
    let mut seen = BTreeSet::new();
    paths.into_iter().filter_map(move |path| {
        let file = File::open(path).ok()?;
        let metadata = file.metadata().ok()?;
        seen.insert((metadata.dev(), metadata.ino()))
            .then_some(file)
    })
}
