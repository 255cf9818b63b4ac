//! Next hops: by which interface, from and to which MAC a backend is reached.
//!
//! The kernel knows; this room asks it over rtnetlink, has it resolve the neighbours and keep them
//! fresh, and follows every change. Backends behind one gateway share that gateway's neighbour, so
//! that ten thousand of them cost no more than their route look-ups.
//!
//! [`tracker`] holds what is known and what follows from it, without a socket; [`task`] feeds it;
//! [`requests`] and [`sockets`] speak netlink.

mod link;
mod requests;
mod sockets;
mod task;
mod tracker;

use std::{collections::BTreeMap, io, net::IpAddr};

use tokio::sync::mpsc;

pub use link::{Link, Vlan, XdpProgram};

use self::{
    task::Command,
    tracker::{Reachability, Route},
};

/// A MAC address.
pub type Mac = [u8; 6];

/// How to reach an address, or why that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Frames go there.
    Resolved(Resolved),
    /// It is an address of this host.
    Local,
    /// Frames cannot go there.
    Unresolved {
        /// Why, as a sentence without a full stop.
        reason: String,
    },
}

/// A resolved next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// Index of the egress interface; the lowest, where the route leads into a VLAN.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// MAC that frames come from.
    pub source: Mac,
    /// MAC of the address itself or of the gateway to it.
    pub destination: Mac,
    /// MTU of the interface, or of the VLAN on it.
    pub mtu: u32,
    /// Number of the VLAN that frames are tagged with; 0 for none.
    pub vlan: u16,
    /// Number of the 802.1ad VLAN around that one; 0 for none.
    pub outer_vlan: u16,
}

/// What the resolver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The next hop of an address is known for the first time, or another than before.
    NextHop {
        /// The backend's address.
        address: IpAddr,
        /// The way there.
        next_hop: NextHop,
    },
    /// An interface came, changed or went.
    Link {
        /// Its name.
        name: String,
        /// What it is now; `None` when it is gone.
        link: Option<Link>,
    },
}

/// Resolves next hops until it is dropped.
pub struct Resolver {
    commands: mpsc::UnboundedSender<Command>,
}

impl Resolver {
    /// Begins to follow interfaces and the next hops of those addresses. Must be called within a
    /// tokio runtime.
    pub fn start(
        addresses: impl IntoIterator<Item = IpAddr>,
        events: mpsc::UnboundedSender<Event>,
    ) -> io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        task::spawn(&addresses.into_iter().collect(), receiver, events)?;
        Ok(Self { commands })
    }

    /// Replaces the addresses. Next hops already told are told again only when they change.
    pub fn set_addresses(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        self.send(Command::SetAddresses(addresses.into_iter().collect()));
    }

    /// Has the kernel ask anew for the MAC of an address on a local network, because the address
    /// does not answer. At most once in ten seconds each; static neighbours are left alone.
    pub fn verify(&self, address: IpAddr) {
        self.send(Command::Verify(address));
    }

    /// Stops, and takes back the request to keep the neighbours fresh.
    pub async fn release(self) {
        let (done, wait) = tokio::sync::oneshot::channel();
        self.send(Command::Release(done));
        // The task may be gone already, which is as good.
        let _ = wait.await;
    }

    fn send(&self, command: Command) {
        // The task ends only with the runtime; then nobody waits for an answer.
        let _ = self.commands.send(command);
    }
}

/// The way to an address, as the kernel knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is an address of this host.
    Local,
    /// By an interface.
    Via {
        /// Its index.
        ifindex: u32,
        /// The gateway, if the address is not on that network.
        gateway: Option<IpAddr>,
        /// Whether the address, or the gateway, has told its MAC; nothing where it was not asked.
        answers: Option<bool>,
    },
    /// There is none.
    None {
        /// Why, as a sentence without a full stop.
        reason: String,
    },
}

/// The ways to addresses. Nothing is asked of neighbours, and nothing changed.
///
/// # Errors
/// When the kernel cannot be asked.
pub async fn ways(
    addresses: impl IntoIterator<Item = IpAddr>,
) -> io::Result<BTreeMap<IpAddr, Way>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let mut ways = BTreeMap::new();
    for address in addresses {
        let way = match requests::route(&handle, address).await {
            Route::Local => Way::Local,
            Route::None { reason } => Way::None { reason },
            Route::Via(key) => Way::Via {
                ifindex: key.ifindex,
                gateway: (key.address != address).then_some(key.address),
                answers: match requests::neighbour(&handle, key).await {
                    Reachability::Usable(_) | Reachability::Static(_) => Some(true),
                    Reachability::Failed => Some(false),
                    Reachability::Asking | Reachability::Unknown => None,
                },
            },
        };
        ways.insert(address, way);
    }
    connection.abort();
    Ok(ways)
}

/// All interfaces of this network namespace.
pub async fn links() -> io::Result<Vec<Link>> {
    let (connection, handle, _) = rtnetlink::new_connection()?;
    let connection = tokio::spawn(connection);
    let links = requests::links(&handle).await;
    connection.abort();
    links
}
