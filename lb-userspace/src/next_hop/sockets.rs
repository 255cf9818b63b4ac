//! The netlink sockets.

use std::io;

use futures_util::StreamExt as _;
use rtnetlink::{
    Handle, MulticastGroup, packet_core::NetlinkMessage, packet_route::RouteNetlinkMessage,
    proto::Connection, sys::AsyncSocket as _,
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Room for notifications; the default overflows when many neighbours change at once.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;

/// What the kernel tells by itself.
type Notifications = mpsc::UnboundedReceiver<NetlinkMessage<RouteNetlinkMessage>>;

/// One socket to ask by and one to listen on, so that answers never crowd out notifications.
pub(super) struct Sockets {
    pub(super) handle: Handle,
    pub(super) notifications: Notifications,
    connections: [JoinHandle<()>; 2],
}

impl Sockets {
    pub(super) fn open() -> io::Result<Self> {
        let (asking, handle, _) = rtnetlink::new_connection()?;
        let (mut listening, listening_handle, mut incoming): (
            Connection<RouteNetlinkMessage>,
            _,
            _,
        ) = rtnetlink::new_multicast_connection(&[
            MulticastGroup::Link,
            MulticastGroup::Neigh,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Route,
            MulticastGroup::Ipv4Rule,
            MulticastGroup::Ipv6Rule,
        ])?;
        // A smaller buffer works too: an overrun only costs a full look.
        let _ = listening
            .socket_mut()
            .socket_mut()
            .set_rx_buf_sz(RECEIVE_BUFFER);
        let (sender, notifications) = mpsc::unbounded_channel();
        let asking = tokio::spawn(asking);
        let listening = tokio::spawn(async move {
            let forward = async move {
                // The connection lives as long as a handle to it.
                let _handle = listening_handle;
                while let Some((message, _)) = incoming.next().await {
                    if sender.send(message).is_err() {
                        break;
                    }
                }
            };
            tokio::join!(listening, forward);
        });
        Ok(Self {
            handle,
            notifications,
            connections: [asking, listening],
        })
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for connection in &self.connections {
            connection.abort();
        }
    }
}
