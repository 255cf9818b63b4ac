//! What matters of an interface.

use rtnetlink::packet_route::{
    AddressFamily,
    link::{
        InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
        LinkMessage, LinkXdp, VlanProtocol, XdpAttached,
    },
};

use super::Mac;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its MAC, if it has one.
    pub mac: Option<Mac>,
    /// Largest IP packet it takes.
    pub mtu: u32,
    /// Switched on.
    pub is_up: bool,
    /// Has a carrier.
    pub has_carrier: bool,
    /// The XDP program on it.
    pub xdp: Option<XdpProgram>,
    /// The VLAN it stands for, if that is what it is.
    pub vlan: Option<Vlan>,
    /// Whether it bonds others.
    pub is_bond: bool,
    /// Index of the bond or bridge that it is a port of.
    pub controller: Option<u32>,
}

/// A VLAN on another interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Index of that interface.
    pub parent: u32,
    /// The VLAN's number.
    pub id: u16,
    /// Tagged as IEEE 802.1Q says, not 802.1ad.
    pub is_dot1q: bool,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct XdpProgram {
    /// Its id.
    pub id: u32,
    /// Attached in the driver or on socket buffers.
    pub is_native: bool,
}

impl Link {
    /// From what the kernel says; `None` for a message that is not about an interface as a whole.
    pub(super) fn from_message(message: &LinkMessage) -> Option<Self> {
        if !is_about_the_whole(message) {
            return None;
        }
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            mac: None,
            mtu: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            has_carrier: message.header.flags.contains(LinkFlags::LowerUp),
            xdp: None,
            vlan: None,
            is_bond: false,
            controller: None,
        };
        let mut parent = None;
        let is_ethernet = message.header.link_layer_type == LinkLayerType::Ether;
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "of the kernel's many attributes these are the ones that matter"
        )]
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(mac) if is_ethernet => {
                    link.mac = Mac::try_from(mac.as_slice()).ok();
                }
                LinkAttribute::Xdp(attributes) => link.xdp = xdp_program(attributes),
                LinkAttribute::Link(ifindex) => parent = Some(*ifindex),
                LinkAttribute::Controller(ifindex) => link.controller = Some(*ifindex),
                LinkAttribute::LinkInfo(infos) => {
                    link.vlan = vlan(infos);
                    link.is_bond = infos.contains(&LinkInfo::Kind(InfoKind::Bond));
                }
                _ => {}
            }
        }
        if let (Some(vlan), Some(parent)) = (&mut link.vlan, parent) {
            vlan.parent = parent;
        }
        if link.name.is_empty() {
            None
        } else {
            Some(link)
        }
    }

    /// Whether frames can leave by it.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.is_up && self.has_carrier
    }
}

/// Whether a message is about an interface, and not about what it is to a bridge, say: one that
/// leaves a bridge is gone for the bridge alone.
pub(super) fn is_about_the_whole(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

/// The VLAN, still without its parent.
fn vlan(infos: &[LinkInfo]) -> Option<Vlan> {
    let attributes = infos.iter().find_map(|info| {
        if let LinkInfo::Data(InfoData::Vlan(attributes)) = info {
            Some(attributes)
        } else {
            None
        }
    })?;
    let id = attributes.iter().find_map(|attribute| {
        if let InfoVlan::Id(id) = attribute {
            Some(*id)
        } else {
            None
        }
    })?;
    let is_dot1q = !attributes.contains(&InfoVlan::Protocol(VlanProtocol::Ieee8021Ad));
    Some(Vlan {
        parent: 0,
        id,
        is_dot1q,
    })
}

fn xdp_program(attributes: &[LinkXdp]) -> Option<XdpProgram> {
    let mut is_native = None;
    let mut id = None;
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of the kernel's many attributes these are the ones that matter"
    )]
    for attribute in attributes {
        match attribute {
            LinkXdp::Attached(XdpAttached::Driver | XdpAttached::Hardware) => {
                is_native = Some(true);
            }
            LinkXdp::Attached(XdpAttached::SocketBuffer) => is_native = Some(false),
            LinkXdp::ProgId(program) => id = Some(*program),
            _ => {}
        }
    }
    Some(XdpProgram {
        id: id?,
        is_native: is_native?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_port_is_to_its_bridge_is_not_the_interface() {
        let mut message = LinkMessage::default();
        message.header.index = 3;
        message.header.interface_family = AddressFamily::Unspec;
        message.attributes = vec![
            LinkAttribute::IfName("eth1".to_owned()),
            LinkAttribute::Controller(9),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bond)]),
        ];
        let link = Link::from_message(&message).unwrap();
        assert_eq!((link.ifindex, link.controller), (3, Some(9)));
        assert!(link.is_bond);
        message.header.interface_family = AddressFamily::Bridge;
        assert_eq!(Link::from_message(&message), None);
        assert!(!is_about_the_whole(&message));
    }
}
