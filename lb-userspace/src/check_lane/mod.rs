//! The way that health checks through a service take into the data path: a pair of virtual
//! interfaces. Checks' sockets are bound to one end, and steering attaches to the other, which it
//! sees their packets come in by, as those of clients do by a network interface.
//!
//! Both ends have one MAC and need no neighbours, so a packet for any address goes across. The
//! kernel's own view of addresses is helped in two places: replies may come from an address that is
//! this host's too, as a VIP may be, and for IPv6 there is a route that only sockets bound to the
//! interface see.

mod offloads;

use std::{
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use futures_util::StreamExt as _;
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_core::DefaultNla,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressMessage, AddressScope},
        link::{
            AfSpecInet, AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags,
            LinkMessage,
        },
        route::RouteProtocol,
        rule::{RuleAction, RuleAttribute, RuleMessage},
    },
};

/// Where checks' sockets are.
pub const SOCKETS_END: &str = "lbcheck0";
/// Where steering attaches.
pub const STEERING_END: &str = "lbcheck1";

/// Of both ends: locally administered, and the same on every host, which nobody else sees.
const MAC: [u8; 6] = [0x02, 0x6c, 0x62, 0, 0, 0x01];
/// An interface without an address fails the kernel's look at where packets come from. This one is
/// nobody's (RFC 7600), and no socket takes it as its own.
pub const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);
/// Number of the table and of the rule for IPv6.
const TABLE: u32 = 27_746;

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Somebody else's.
    #[error(
        "checks with `via = \"service\"` need the interfaces {SOCKETS_END} and {STEERING_END}, and \
         {name} is there and belongs to {owner}: stop that first, or remove it (`ip link del {name}`)"
    )]
    Taken {
        /// The interface.
        name: &'static str,
        /// Whose it is.
        owner: String,
    },
    /// No such kind of interface.
    #[error(
        "this kernel cannot make virtual Ethernet pairs, which checks with `via = \"service\"` need: \
         load the module veth (`modprobe veth`), or use `via = \"direct\"`"
    )]
    NoVeth,
    /// Anything else.
    #[error("cannot {action} for checks with `via = \"service\"`: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn failed(action: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |error| Error::System {
        action,
        source: to_io(error),
    }
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = error {
        message.to_io()
    } else {
        io::Error::other(error.to_string())
    }
}

/// Both interfaces, as long as somebody sees to their removal.
#[derive(Debug)]
pub struct Pair {
    pin_path: PathBuf,
    /// Of the end of sockets.
    ifindex: u32,
    /// Of the other one.
    steering: u32,
    has_v6: bool,
}

impl Pair {
    /// Makes them, with what IPv6 needs if it is wanted. What a dead agent of the same pin path left
    /// is made anew.
    pub async fn create(pin_path: &Path, has_v6: bool) -> Result<Self, Error> {
        remove(pin_path).await?;
        let netlink = Netlink::open()?;
        let mut pair = Self {
            pin_path: pin_path.to_owned(),
            ifindex: 0,
            steering: 0,
            has_v6: false,
        };
        let made = pair.make(&netlink.handle, has_v6).await;
        if let Err(error) = made {
            drop(netlink);
            if let Err(error) = remove(pin_path).await {
                tracing::warn!("{error}");
            }
            return Err(error);
        }
        Ok(pair)
    }

    async fn make(&mut self, handle: &Handle, has_v6: bool) -> Result<(), Error> {
        let pair = LinkVeth::new(SOCKETS_END, STEERING_END).build();
        let made = handle.link().add(pair).execute().await.map_err(to_io);
        made.map_err(|source| match source.raw_os_error() {
            Some(libc::EOPNOTSUPP) => Error::NoVeth,
            _ => Error::System {
                action: "make a pair of interfaces",
                source,
            },
        })?;
        let alias = alias(&self.pin_path);
        for name in [SOCKETS_END, STEERING_END] {
            let end = LinkUnspec::new_with_name(name)
                .address(MAC.to_vec())
                .alias(alias.clone())
                .arp(false)
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(
                    vec![trusting()],
                )]))
                .build();
            handle
                .link()
                .set(end)
                .execute()
                .await
                .map_err(failed("set an interface up"))?;
            // A host without IPv6 knows nothing of it.
            let silent = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
            let silent = LinkUnspec::new_with_name(name)
                .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                    vec![silent],
                )]))
                .build();
            let _ = handle.link().set(silent).execute().await;
        }
        offloads::prepare(SOCKETS_END).map_err(|source| Error::System {
            action: "set the offloads of an interface",
            source,
        })?;
        for name in [STEERING_END, SOCKETS_END] {
            let up = LinkUnspec::new_with_name(name).up().build();
            handle
                .link()
                .set(up)
                .execute()
                .await
                .map_err(failed("switch an interface on"))?;
        }
        for (name, index) in [
            (SOCKETS_END, &mut self.ifindex),
            (STEERING_END, &mut self.steering),
        ] {
            let link = link(handle, name).await?;
            *index = link.map_or(0, |link| link.header.index);
        }
        let mut address = handle.address().add(0, DUMMY.into(), 32);
        *address.message_mut() = dummy(self.ifindex);
        address
            .execute()
            .await
            .map_err(failed("give an interface an address"))?;
        if has_v6 {
            self.add_v6(handle).await?;
        }
        Ok(())
    }

    /// What somebody did to them since they were made, in words.
    pub async fn damage(&self) -> Result<Option<String>, Error> {
        let netlink = Netlink::open()?;
        for (name, index) in [(SOCKETS_END, self.ifindex), (STEERING_END, self.steering)] {
            let found = match link(&netlink.handle, name).await? {
                None => "is gone",
                Some(link) if link.header.index != index => "is another one",
                Some(link) if !link.header.flags.contains(LinkFlags::Up) => "is down",
                Some(_) => continue,
            };
            return Ok(Some(format!("{name} {found}")));
        }
        Ok(None)
    }

    /// Sees to what IPv6 needs, if it is not there yet.
    pub async fn need_v6(&mut self) -> Result<(), Error> {
        if self.has_v6 {
            return Ok(());
        }
        let netlink = Netlink::open()?;
        self.add_v6(&netlink.handle).await
    }

    async fn add_v6(&mut self, handle: &Handle) -> Result<(), Error> {
        let route = RouteMessageBuilder::<std::net::Ipv6Addr>::new()
            .output_interface(self.ifindex)
            .table_id(TABLE)
            // Those of others are removed by whoever manages this host's network.
            .protocol(RouteProtocol::Kernel)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(failed("add a route of IPv6"))?;
        let mut rule = handle.rule().add().v6();
        *rule.message_mut() = v6_rule();
        let kernels = RuleAttribute::Protocol(RouteProtocol::Kernel);
        rule.message_mut().attributes.push(kernels);
        match rule.execute().await.map_err(to_io) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
            Err(source) => {
                return Err(Error::System {
                    action: "add a rule of IPv6",
                    source,
                });
            }
        }
        self.has_v6 = true;
        Ok(())
    }

    /// Removes them.
    pub async fn remove(self) -> Result<(), Error> {
        remove(&self.pin_path).await.map(drop)
    }
}

/// Whose they are, in words that `ip link` shows.
fn alias(pin_path: &Path) -> String {
    format!("health checks of lb, {}", pin_path.display())
}

// From <linux/if_link.h> and <linux/ip.h>.
const IFLA_INET_CONF: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
const RP_FILTER: u16 = 8;
const ACCEPT_LOCAL: u16 = 23;

/// What keeps the kernel from refusing replies from an address of this host's. By netlink, because
/// /proc/sys may be there to read only.
fn trusting() -> AfSpecInet {
    // The larger of the interface's setting and of that for all holds, and "loose" is larger than
    // "strict", which would refuse everything.
    let all = fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter");
    let is_checked = all.is_ok_and(|all| all.trim() != "0");
    let settings = [
        (ACCEPT_LOCAL, 1),
        (RP_FILTER, if is_checked { 2 } else { 0 }),
    ];
    let settings = settings.into_iter().flat_map(|(kind, value): (u16, u32)| {
        let length: u16 = 8;
        let header = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        [header, value.to_ne_bytes().to_vec()].concat()
    });
    AfSpecInet::Other(DefaultNla::new(
        IFLA_INET_CONF | NLA_F_NESTED,
        settings.collect(),
    ))
}

fn dummy(ifindex: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = ifindex;
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.scope = AddressScope::Host;
    message.attributes = vec![
        AddressAttribute::Local(DUMMY.into()),
        AddressAttribute::Address(DUMMY.into()),
    ];
    message
}

fn v6_rule() -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = AddressFamily::Inet6;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Oifname(SOCKETS_END.to_owned()),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Priority(TABLE),
    ];
    rule
}

/// Removes what an agent of that pin path made or left, and says whether there was any.
pub async fn remove(pin_path: &Path) -> Result<bool, Error> {
    let netlink = Netlink::open()?;
    let handle = &netlink.handle;
    let mut is_ours = false;
    for name in [SOCKETS_END, STEERING_END] {
        let Some(link) = link(handle, name).await? else {
            continue;
        };
        let found = link.attributes.iter().find_map(|attribute| {
            if let LinkAttribute::IfAlias(alias) = attribute {
                Some(alias.as_str())
            } else {
                None
            }
        });
        if found != Some(alias(pin_path).as_str()) {
            let owner = found.map_or_else(|| "somebody else".to_owned(), str::to_owned);
            return Err(Error::Taken { name, owner });
        }
        is_ours = true;
        // The other end goes with it, and so do its addresses and routes.
        let gone = handle.link().del(link.header.index).execute().await;
        gone.map_err(failed("remove an interface"))?;
    }
    // A rule names its interface, and stays without it.
    let gone = handle.rule().del(v6_rule()).execute().await.map_err(to_io);
    match gone {
        Ok(()) => is_ours = true,
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM)) && is_ours => {
            return Err(Error::System {
                action: "remove a rule of IPv6",
                source: error,
            });
        }
        // There is none, or no IPv6.
        Err(_) => {}
    }
    Ok(is_ours)
}

/// The same, for where no runtime is.
pub fn remove_now(pin_path: &Path) -> Result<bool, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::System {
            action: "ask the kernel for interfaces",
            source,
        })?;
    runtime.block_on(remove(pin_path))
}

/// An interface, if it exists.
async fn link(handle: &Handle, name: &str) -> Result<Option<LinkMessage>, Error> {
    let mut found = Box::pin(handle.link().get().match_name(name).execute());
    match found.next().await {
        Some(Ok(link)) => Ok(Some(link)),
        None => Ok(None),
        Some(Err(error)) => {
            let source = to_io(error);
            if source.raw_os_error() == Some(libc::ENODEV) {
                return Ok(None);
            }
            Err(Error::System {
                action: "ask the kernel for interfaces",
                source,
            })
        }
    }
}

/// A socket to ask the kernel by.
struct Netlink {
    handle: Handle,
    connection: tokio::task::JoinHandle<()>,
}

impl Netlink {
    fn open() -> Result<Self, Error> {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(|source| Error::System {
                action: "ask the kernel for interfaces (rtnetlink)",
                source,
            })?;
        Ok(Self {
            handle,
            connection: tokio::spawn(connection),
        })
    }
}

impl Drop for Netlink {
    fn drop(&mut self) {
        self.connection.abort();
    }
}
