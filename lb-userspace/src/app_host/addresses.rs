//! Addresses on `lo`.

use std::{io, net::IpAddr};

use nix::{ifaddrs::getifaddrs, net::if_::if_nametoindex, sys::socket::SockaddrStorage};
use rtnetlink::{
    Handle,
    packet_route::{
        AddressFamily,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope, CacheInfo},
    },
};

use super::error::Error;

const LOOPBACK: &str = "lo";

/// All addresses of this host, each with whether it is on `lo`.
pub(super) fn list() -> Result<Vec<(IpAddr, bool)>, Error> {
    let found = getifaddrs().map_err(|error| Error::System {
        action: "list this host's addresses",
        source: error.into(),
    })?;
    Ok(found
        .filter_map(|entry| {
            // Of an IPv4 address it is the label: `lo`, or an alias such as `lo:1`.
            let name = entry.interface_name.split(':').next().unwrap_or_default();
            Some((ip(&entry.address?)?, name == LOOPBACK))
        })
        .collect())
}

/// Whether an address is on `lo`.
pub(super) fn is_on_lo(list: &[(IpAddr, bool)], address: IpAddr) -> bool {
    list.contains(&(address, true))
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Puts addresses on `lo`; one that is there already stays as it is.
pub(super) fn add(addresses: &[IpAddr]) -> Result<(), Error> {
    each(addresses, true, libc::EEXIST)
}

/// Takes addresses from `lo`; one that is not there is fine.
pub(super) fn remove(addresses: &[IpAddr]) -> Result<(), Error> {
    each(addresses, false, libc::EADDRNOTAVAIL)
}

/// Changes each of them, whatever becomes of the others, and returns the first error.
fn each(addresses: &[IpAddr], is_new: bool, fine: i32) -> Result<(), Error> {
    if addresses.is_empty() {
        return Ok(());
    }
    let failed = |source| Error::System {
        action: "ask the kernel for addresses (rtnetlink)",
        source,
    };
    let index = if_nametoindex(LOOPBACK).map_err(|error| failed(error.into()))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
        let connection = tokio::spawn(connection);
        let mut first = Ok(());
        for address in addresses {
            let result = change(&handle, message(*address, index), is_new).await;
            match result {
                Err(source) if source.raw_os_error() != Some(fine) => {
                    first = first.and(Err(Error::Address {
                        address: *address,
                        is_new,
                        source,
                    }));
                }
                _ => {}
            }
        }
        connection.abort();
        first
    })
}

async fn change(handle: &Handle, message: AddressMessage, is_new: bool) -> io::Result<()> {
    let result = if is_new {
        let mut request = handle.address().add(0, IpAddr::from([0; 4]), 0);
        *request.message_mut() = message;
        request.execute().await
    } else {
        handle.address().del(message).execute().await
    };
    result.map_err(|error| {
        if let rtnetlink::Error::NetlinkError(message) = error {
            message.to_io()
        } else {
            io::Error::other(error.to_string())
        }
    })
}

/// The address alone, without a network, and such that this host does not take it for the source of
/// its own connections: of scope "host", and for IPv6 "deprecated".
fn message(address: IpAddr, index: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.scope = AddressScope::Host;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    match address {
        IpAddr::V4(_) => {
            message.header.family = AddressFamily::Inet;
            message.header.prefix_len = 32;
        }
        IpAddr::V6(_) => {
            message.header.family = AddressFamily::Inet6;
            message.header.prefix_len = 128;
            // Nobody on `lo` could have the same one.
            message.header.flags = AddressHeaderFlags::Nodad;
            let mut lifetime = CacheInfo::default();
            lifetime.ifa_valid = u32::MAX;
            let lifetime = AddressAttribute::CacheInfo(lifetime);
            message.attributes.push(lifetime);
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_has_addresses_on_lo() {
        let list = list().unwrap();
        assert!(is_on_lo(&list, IpAddr::from([127, 0, 0, 1])), "{list:?}");
        assert!(!is_on_lo(&list, IpAddr::from([192, 0, 2, 1])));
    }
}
