//! Every way a packet can leave, and everything else that is counted.
//!
//! This is the single source of the XDP action, the counter, the metric label and the table in
//! the docs.

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// To the kernel's stack, untouched.
    Pass,
    /// Nowhere.
    Drop,
    /// Out of an interface.
    Emit,
}

macro_rules! counted {
    ($(#[$doc:meta])* $name:ident; $($variant:ident $label:literal $explanation:literal)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $(#[doc = $explanation] $variant,)* }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// Its stable name in metrics and status.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// From its number; a number that is none of them is the last one's.
            #[inline(always)]
            pub const fn from_number(number: u8) -> Self {
                $(if number == Self::$variant as u8 { return Self::$variant; })*
                Self::ALL[Self::ALL.len() - 1]
            }

            /// One sentence for the reference.
            #[must_use]
            pub const fn explanation(self) -> &'static str {
                match self { $(Self::$variant => $explanation,)* }
            }
        }
    };
}
pub(crate) use counted;

counted! {
    /// How a packet left the data path.
    #[must_use]
    Verdict;
    Steered "steered" "Sent to a backend."
    SteeredReply "steered_reply" "A backend's reply, sent to its client with the service's address."
    SteeredLocal "steered_local" "For a backend that is this host: handed to the kernel's stack as it is."
    SteeredError "steered_error" "An ICMP error about a flow, sent to the backend or the client it is meant for."
    AnsweredEcho "answered_echo" "An echo request (ping) for a service's address, answered."
    AnsweredTooBig "answered_too_big" "Larger than the MTU on the way to the backend or the client, or than what a tunnel leaves of it: answered with an ICMP fragmentation needed or packet too big that names the size that fits."
    AnsweredResetNoBackend "answered_reset_no_backend" "No backend is in rotation and `on_no_backend = \"reset\"`: answered with a TCP RST."
    AnsweredUnreachableNoBackend "answered_unreachable_no_backend" "No backend is in rotation: answered with an ICMP port unreachable."
    AnsweredResetNoFlow "answered_reset_no_flow" "A TCP packet for a service that belongs to no known flow and begins none: answered with a RST, as a host does, so that the client connects anew at once."
    AnsweredResetBackendDown "answered_reset_backend_down" "The flow's backend went down and `on_backend_down = \"reset\"`: answered with a TCP RST."
    AnsweredSynCookie "answered_syn_cookie" "A SYN for a service with more half-open flows than `syn_cookies`: answered with a SYN cookie, so that nothing is remembered of a forged one."
    AnsweredForClient "answered_for_client" "What a backend answers to the SYN of a connection that began by a SYN cookie, so that its client had its answer already: a SYN-ACK is acknowledged to the backend, an acknowledgement of an older connection of the same ports is reset."
    PassNotOurs "pass_not_ours" "Neither for a service nor a reply of a backend, or of an IP version that no service uses: left to the kernel."
    PassArp "pass_arp" "Address resolution: left to the kernel."
    PassMpls "pass_mpls" "MPLS: left to the kernel."
    PassPppoe "pass_pppoe" "PPPoE: left to the kernel."
    PassNotIp "pass_not_ip" "Neither IPv4 nor IPv6 and none of the above: left to the kernel."
    PassProtocol "pass_protocol" "For a service's address, but neither TCP nor UDP nor an ICMP message that is steered, or with an IPv6 routing header that names further hosts: left to the kernel."
    PassOtherHost "pass_other_host" "For a service's address, or from a backend with `nat` or `full-nat`, but the frame is addressed to another host's MAC (flooded by a switch, promiscuous mode): left to the kernel."
    DropNoBackend "drop_no_backend" "No backend is in rotation and `on_no_backend = \"drop\"`."
    DropTtlExceeded "drop_ttl_exceeded" "The TTL or hop limit was 1 or 0."
    DropMartian "drop_martian" "The source is an address that no host has (loopback, multicast, broadcast, unspecified): forged."
    DropFragment "drop_fragment" "A fragment for a service's address whose first fragment, which has the ports, was not seen or was another one."
    DropFragmentMismatch "drop_fragment_mismatch" "A first fragment with the identification of a packet under way and other ports: overlapping fragments are an attack (RFC 5722)."
    DropErrorNoFlow "drop_error_no_flow" "An ICMP error for a service's address about a flow that is not known."
    DropMalformed "drop_malformed" "For a service's address, but its TCP or UDP header is truncated or its flags contradict each other."
    DropNoNextHop "drop_no_next_hop" "The way to the backend, or back to the client, is not known: its neighbour did not answer or its interface is gone."
    DropTooBig "drop_too_big" "A fragment, or the reply to a health check, larger than the MTU on its way."
    DropTupleInUse "drop_tuple_in_use" "The client's address and port already have a flow to this backend through another service, and their replies could not be told apart. The client's retry gets another backend in turn with `round-robin` and `least-connections`; where there is one backend, or the client keeps its own (`maglev`, `source-hash`, affinity), it succeeds when the client takes another port or the other flow is over."
    DropTableContended "drop_table_contended" "Another CPU changed the same place of the flow table at the same instant; the client's retry succeeds."
    DropResetNoFlow "drop_reset_no_flow" "A TCP RST for a service that belongs to no known flow."
    DropNoSourcePort "drop_no_source_port" "Full NAT: all ports of the service's `source_addresses` are in use, and `on_no_backend = \"drop\"`."
    AnsweredResetNoSourcePort "answered_reset_no_source_port" "Full NAT: all ports of the service's `source_addresses` are in use and `on_no_backend = \"reset\"`: answered with a TCP RST."
    AnsweredUnreachableNoSourcePort "answered_unreachable_no_source_port" "Full NAT: all ports of the service's `source_addresses` are in use: answered with an ICMP port unreachable."
    DropReflected "drop_reflected" "The source is itself the address of a service: forged, or a loop."
    DropUnknownBackend "drop_unknown_backend" "The flow or slot names a backend that does not exist any more."
    DropAnswerLimited "drop_answer_limited" "An ICMP error was due, but this CPU has sent its share for this moment (RFC 4443, section 2.4)."
    DropNoRoom "drop_no_room" "The driver left no room to build the answer or the tag."
    DropEarly "drop_early" "Of a connection that began by a SYN cookie and whose backend has not answered yet; the sender tries again."
    SteeredCheck "steered_check" "A packet of a health check with `via = \"service\"`: the balancer's own, sent to the backend that is checked, or that backend's reply, sent to the check. Neither counts for the service or the backend."
    DropNoCheck "drop_no_check" "A packet from the interface of health checks that belongs to none under way: the rest of a connection whose check has ended."
    DropDenied "drop_denied" "The firewall denies its source (`[firewall]`, `lb firewall`), whatever it is for."
    DropServiceDenied "drop_service_denied" "The service's own lists keep its source out (`[service.firewall]`)."
    DropRateNewConnections "drop_rate_new_connections" "Its source has begun as many connections as `[firewall.rate] new_connections` and `burst` allow; a client tries again by itself."
    DropRatePackets "drop_rate_packets" "Its source has sent as many packets to services as `[firewall.rate] packets` and `packets_burst` allow."
    DropRateFlows "drop_rate_flows" "It would begin a flow, and its source has as many at a time as `[firewall.rate] flows` allows."
    DropOffender "drop_offender" "Its source has exceeded a limit of `[firewall.rate]` less than `deny_seconds` ago (`lb firewall list`), whatever it is for."
    DropLockedDown "drop_locked_down" "For this host itself, which is locked down (`[firewall] default = \"deny\"`), and none of what may pass: no named port, no established connection, no trusted source, no ICMP essential."
}

impl Verdict {
    /// What becomes of the frame.
    #[inline(always)]
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Steered
            | Self::SteeredCheck
            | Self::SteeredReply
            | Self::SteeredError
            | Self::AnsweredEcho
            | Self::AnsweredSynCookie
            | Self::AnsweredForClient
            | Self::AnsweredTooBig
            | Self::AnsweredResetNoSourcePort
            | Self::AnsweredUnreachableNoSourcePort
            | Self::AnsweredResetNoBackend
            | Self::AnsweredUnreachableNoBackend
            | Self::AnsweredResetNoFlow
            | Self::AnsweredResetBackendDown => Disposition::Emit,
            Self::SteeredLocal
            | Self::PassNotOurs
            | Self::PassArp
            | Self::PassMpls
            | Self::PassPppoe
            | Self::PassNotIp
            | Self::PassProtocol
            | Self::PassOtherHost => Disposition::Pass,
            Self::DropNoBackend
            | Self::DropNoCheck
            | Self::DropEarly
            | Self::DropTtlExceeded
            | Self::DropMartian
            | Self::DropFragment
            | Self::DropFragmentMismatch
            | Self::DropErrorNoFlow
            | Self::DropNoSourcePort
            | Self::DropReflected
            | Self::DropMalformed
            | Self::DropNoNextHop
            | Self::DropTooBig
            | Self::DropTupleInUse
            | Self::DropTableContended
            | Self::DropResetNoFlow
            | Self::DropUnknownBackend
            | Self::DropAnswerLimited
            | Self::DropDenied
            | Self::DropServiceDenied
            | Self::DropRateNewConnections
            | Self::DropRatePackets
            | Self::DropRateFlows
            | Self::DropOffender
            | Self::DropLockedDown
            | Self::DropNoRoom => Disposition::Drop,
        }
    }
}

impl Verdict {
    /// Whether it is rare and bad enough to be logged when it begins.
    #[inline(always)]
    #[must_use]
    pub const fn is_logged(self) -> bool {
        matches!(
            self,
            Self::AnsweredResetNoBackend
                | Self::AnsweredSynCookie
                | Self::AnsweredUnreachableNoBackend
                | Self::AnsweredResetNoSourcePort
                | Self::AnsweredUnreachableNoSourcePort
                | Self::DropNoSourcePort
                | Self::DropNoBackend
                | Self::DropNoNextHop
                | Self::DropTooBig
                | Self::DropUnknownBackend
                | Self::DropAnswerLimited
                | Self::DropNoRoom
        )
    }
}

counted! {
    /// What happened to flows, beside what happened to packets.
    Event;
    FlowEstablished "flow_established" "A half-open flow was proven and moved to the established table."
    FlowRescheduled "flow_rescheduled" "A live flow got another backend because its own went down."
    EstablishedEvicted "established_evicted" "A live established flow lost its place to a new one: the table is too small (`limits.flows`)."
    HalfOpenEvicted "half_open_evicted" "A half-open flow lost its place to a new one: a SYN flood, or the table is too small (`limits.half_open_flows`)."
    HandshakeUnproven "handshake_unproven" "An ACK for a half-open flow did not fit the backend's SYN-ACK; the flow was not promoted."
    OffenderDenied "offender_denied" "A source exceeded a limit of `[firewall.rate]` and is denied for `deny_seconds`."
    FirewallWouldDrop "firewall_would_drop" "The firewall would have dropped a packet, but for `dry_run = true`."
    ConnectionTakenUp "connection_taken_up" "A packet of a connection that is not known here went to the backend its hash names; it may have begun by another balancer."
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::abi::{EVENT_CAPACITY, VERDICT_CAPACITY};

    #[test]
    fn a_label_begins_with_what_happened() {
        for verdict in Verdict::ALL {
            let label = verdict.label();
            let expected: &[&str] = match verdict.disposition() {
                Disposition::Pass => &["pass_", "steered_local"],
                Disposition::Drop => &["drop_"],
                Disposition::Emit => &["steered", "answered_"],
            };
            assert!(
                expected.iter().any(|prefix| label.starts_with(prefix)),
                "{label}"
            );
        }
    }

    #[test]
    fn labels_are_unique_and_fit_their_counters() {
        let labels: HashSet<_> = Verdict::ALL
            .iter()
            .map(|verdict| verdict.label())
            .chain(Event::ALL.iter().map(|event| event.label()))
            .collect();
        assert_eq!(labels.len(), Verdict::ALL.len() + Event::ALL.len());
        assert!(Verdict::ALL.len() <= VERDICT_CAPACITY);
        assert!(Event::ALL.len() <= EVENT_CAPACITY);
    }
}
