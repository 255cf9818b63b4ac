use super::*;
use crate::next_hop::Vlan;

const MAC: Mac = [2, 0, 0, 0, 0, 1];
const OTHER_MAC: Mac = [2, 0, 0, 0, 0, 2];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(ifindex: u32, name: &str) -> Link {
    Link {
        ifindex,
        name: name.into(),
        mac: Some([4; 6]),
        mtu: 1500,
        is_up: true,
        has_carrier: true,
        xdp: None,
        vlan: None,
        is_bond: false,
        controller: None,
    }
}

fn via(address: &str) -> NeighbourKey {
    NeighbourKey {
        ifindex: 1,
        address: ip(address),
    }
}

fn tracker(addresses: &[&str], gateway: Option<&str>) -> Tracker {
    let mut tracker = Tracker::default();
    tracker.note_all_links(vec![link(1, "eth1")]);
    let first = Event::Link {
        name: "eth1".into(),
        link: Some(link(1, "eth1")),
    };
    assert_eq!(tracker.take_events(), [first]);
    tracker.set_addresses(&addresses.iter().map(|text| ip(text)).collect());
    for address in tracker.take_unrouted() {
        let neighbour = gateway.map_or(address, ip);
        tracker.note_route(
            address,
            Route::Via(NeighbourKey {
                ifindex: 1,
                address: neighbour,
            }),
        );
    }
    tracker
}

fn macs(events: &[Event]) -> Vec<Option<Mac>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::NextHop {
                next_hop: NextHop::Resolved(hop),
                ..
            } => Some(Some(hop.destination)),
            Event::NextHop { .. } => Some(None),
            Event::Link { .. } => None,
        })
        .collect()
}

#[test]
fn nothing_is_told_before_the_neighbour_answers_or_fails() {
    let mut tracker = tracker(&["10.0.0.1"], None);
    assert_eq!(tracker.take_unseen(), [via("10.0.0.1")]);
    assert_eq!(tracker.take_events(), []);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Asking, Some(true));
    assert_eq!(tracker.take_events(), []);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    assert_eq!(macs(&tracker.take_events()), [Some(MAC)]);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    assert_eq!(tracker.take_events(), []);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(OTHER_MAC), None);
    assert_eq!(macs(&tracker.take_events()), [Some(OTHER_MAC)]);
}

#[test]
fn a_mac_outlasts_a_question_but_not_a_failure() {
    let mut tracker = tracker(&["10.0.0.1"], None);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    tracker.take_events();
    for doubt in [Reachability::Asking, Reachability::Unknown] {
        tracker.note_neighbour(via("10.0.0.1"), doubt, None);
        assert_eq!(tracker.take_events(), []);
    }
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Failed, None);
    let events = tracker.take_events();
    let [
        Event::NextHop {
            next_hop: NextHop::Unresolved { reason },
            ..
        },
    ] = events.as_slice()
    else {
        panic!("{events:?}");
    };
    assert_eq!(reason, "10.0.0.1 does not answer on eth1 (ARP)");
}

#[test]
fn backends_behind_one_gateway_share_its_neighbour() {
    let mut tracker = tracker(&["10.1.0.1", "10.1.0.2", "10.1.0.3"], Some("10.0.0.254"));
    assert_eq!(tracker.take_unseen(), [via("10.0.0.254")]);
    tracker.note_neighbour(via("10.0.0.254"), Reachability::Usable(MAC), Some(true));
    assert_eq!(macs(&tracker.take_events()), [Some(MAC); 3]);
    assert_eq!(tracker.on_link(ip("10.1.0.1")), None);
    tracker.set_addresses(&HashSet::new());
    assert_eq!(tracker.take_dropped(), [via("10.0.0.254")]);
    assert!(tracker.neighbour(via("10.0.0.254")).is_none());
}

#[test]
fn another_route_means_another_neighbour() {
    let mut tracker = tracker(&["10.1.0.1"], Some("10.0.0.254"));
    tracker.note_neighbour(via("10.0.0.254"), Reachability::Usable(MAC), None);
    tracker.take_events();
    tracker.take_unseen();
    tracker.distrust_prefix(ip("10.1.0.0"), 16);
    assert_eq!(tracker.take_unrouted(), [ip("10.1.0.1")]);
    tracker.note_route(ip("10.1.0.1"), Route::Via(via("10.0.0.253")));
    assert_eq!(tracker.take_unseen(), [via("10.0.0.253")]);
    assert!(tracker.neighbour(via("10.0.0.254")).is_none());
    tracker.note_neighbour(via("10.0.0.253"), Reachability::Static(OTHER_MAC), None);
    assert_eq!(macs(&tracker.take_events()), [Some(OTHER_MAC)]);
    let reason = "no route to 10.1.0.1".to_owned();
    tracker.note_route(ip("10.1.0.1"), Route::None { reason });
    assert_eq!(macs(&tracker.take_events()), [None]);
}

#[test]
fn an_interface_that_goes_down_takes_its_next_hops_along() {
    let mut tracker = tracker(&["10.0.0.1"], None);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    tracker.take_events();
    tracker.note_link(Link {
        is_up: false,
        ..link(1, "eth1")
    });
    // The routes are looked up again; suppose the kernel still gives the same.
    assert_eq!(tracker.take_unrouted(), [ip("10.0.0.1")]);
    tracker.note_route(ip("10.0.0.1"), Route::Via(via("10.0.0.1")));
    let events = tracker.take_events();
    assert!(matches!(&events[0], Event::Link { link: Some(link), .. } if !link.is_up));
    assert_eq!(macs(&events), [None]);
}

#[test]
fn prefixes_contain_their_addresses() {
    assert!(contains(ip("0.0.0.0"), 0, ip("10.0.0.1")));
    assert!(contains(ip("10.0.0.0"), 8, ip("10.255.0.1")));
    assert!(!contains(ip("10.0.0.0"), 24, ip("10.0.1.1")));
    assert!(contains(ip("10.0.0.1"), 32, ip("10.0.0.1")));
    assert!(contains(ip("2001:db8::"), 32, ip("2001:db8::1")));
    assert!(!contains(ip("::"), 0, ip("10.0.0.1")));
}

#[test]
fn a_vlan_is_reached_by_the_interface_below_and_a_tag() {
    let mut tracker = tracker(&["10.0.0.1"], None);
    let vlan = Link {
        mtu: 1400,
        vlan: Some(Vlan {
            parent: 7,
            id: 100,
            is_dot1q: true,
        }),
        ..link(1, "eth0.100")
    };
    tracker.note_all_links(vec![vlan, link(7, "eth0")]);
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    let hops: Vec<NextHop> = tracker
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::NextHop { next_hop, .. } => Some(next_hop),
            Event::Link { .. } => None,
        })
        .collect();
    let [NextHop::Resolved(hop)] = hops.as_slice() else {
        panic!("{hops:?}");
    };
    assert_eq!(
        (hop.ifindex, hop.interface.as_str(), hop.vlan, hop.mtu),
        (7, "eth0", 100, 1400)
    );
}

/// What the tracker says of a backend on the first of these interfaces.
fn hop_by(links: Vec<Link>) -> NextHop {
    let mut tracker = tracker(&["10.0.0.1"], None);
    tracker.note_all_links(links);
    tracker.note_route(ip("10.0.0.1"), Route::Via(via("10.0.0.1")));
    tracker.note_neighbour(via("10.0.0.1"), Reachability::Usable(MAC), None);
    let mut hops = tracker
        .take_events()
        .into_iter()
        .filter_map(|event| match event {
            Event::NextHop { next_hop, .. } => Some(next_hop),
            Event::Link { .. } => None,
        });
    let hop = hops.next().unwrap();
    assert_eq!(hops.next(), None);
    hop
}

#[test]
fn a_vlan_in_one_of_802_1ad_is_reached_by_the_lowest_interface_and_two_tags() {
    let vlan = |(ifindex, parent), id, is_dot1q| Link {
        mac: Some([ifindex as u8; 6]),
        mtu: 1500 - ifindex,
        vlan: Some(Vlan {
            parent,
            id,
            is_dot1q,
        }),
        ..link(ifindex, "vlan")
    };
    let lowest = || link(7, "eth0");
    let (c_tag, s_tag) = (true, false);
    let inner = || vlan((1, 4), 100, c_tag);
    let outer = || vlan((4, 7), 20, s_tag);

    let NextHop::Resolved(hop) = hop_by(vec![inner(), outer(), lowest()]) else {
        panic!("not resolved");
    };
    let expected = Resolved {
        ifindex: 7,
        interface: "eth0".to_owned(),
        // Those of the interface that the route names.
        source: [1; 6],
        // Its own is 1499; there is room for one tag beyond the 1500 of the lowest.
        mtu: 1496,
        destination: MAC,
        vlan: 100,
        outer_vlan: 20,
    };
    assert_eq!(hop, expected);

    let refused = [
        ("802.1ad alone", vec![vlan((1, 7), 20, s_tag), lowest()]),
        (
            "in 802.1Q",
            vec![inner(), vlan((4, 7), 20, c_tag), lowest()],
        ),
        (
            "802.1ad in 802.1ad",
            vec![vlan((1, 4), 100, s_tag), outer(), lowest()],
        ),
        (
            "number 0 in another",
            vec![vlan((1, 4), 0, c_tag), outer(), lowest()],
        ),
        (
            "in number 0",
            vec![inner(), vlan((4, 7), 0, s_tag), lowest()],
        ),
        (
            "in two",
            vec![
                inner(),
                vlan((4, 5), 20, s_tag),
                vlan((5, 7), 3, s_tag),
                lowest(),
            ],
        ),
        ("in itself", vec![vlan((1, 1), 100, c_tag)]),
        ("no parent", vec![inner()]),
        ("no lowest", vec![inner(), outer()]),
    ];
    for (what, links) in refused {
        let NextHop::Unresolved { reason } = hop_by(links) else {
            panic!("{what} is resolved");
        };
        assert_eq!(
            reason,
            "vlan is a VLAN of a kind that is not supported (only 802.1Q, by itself or in one of \
             802.1ad), or the interface below it is not in this network namespace",
            "{what}"
        );
    }
}
