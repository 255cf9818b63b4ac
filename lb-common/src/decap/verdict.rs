//! Every way a packet can leave the decapsulation program.

use crate::verdict::counted;

counted! {
    /// What became of a packet on an app host. Counters outlive agents, so numbers stay: new ones go
    /// to the end.
    #[must_use]
    Verdict;
    Decapsulated "decapsulated" "From an allowed source, for one of `vips`: one outer header was taken off, and the packet inside handed to the kernel's stack."
    PassNotTunnelled "pass_not_tunnelled" "No tunnel's packet of a kind in `decap`: left to the kernel."
    PassFragment "pass_fragment" "A fragment of IP in IP or, with `gue`, of UDP: left to the kernel, which may reassemble it, but decapsulates only if it has a tunnel device of its own."
    PassMalformed "pass_malformed" "A length, version or header checksum of the outer header, or a length or version of the inner one, is wrong: left to the kernel, which counts it too."
    PassControl "pass_control" "A control message of GUE: left to the kernel."
    PassUnknownVariant "pass_unknown_variant" "A variant of GUE that is neither 0 nor 1, or one that carries something else than IPv4 or IPv6: left to the kernel."
    PassNotForVip "pass_not_for_vip" "The packet inside is for none of `vips`: left to the kernel, for tunnels of its own."
    DropSourceNotAllowed "drop_source_not_allowed" "For one of `vips`, but the tunnel's source is not in `allowed_sources`."
    DropCongestion "drop_congestion" "The outer header tells of congestion (ECN \"CE\") and the sender inside would not understand it, so the loss has to tell (RFC 6040, section 4.2)."
    DropNoRoom "drop_no_room" "The driver does not let the frame be shortened at its front."
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// To the kernel's stack; untouched unless [`Verdict::Decapsulated`].
    Pass,
    /// Nowhere.
    Drop,
}

impl Verdict {
    /// What becomes of the frame.
    #[inline(always)]
    #[must_use]
    pub const fn disposition(self) -> Disposition {
        match self {
            Self::Decapsulated
            | Self::PassNotTunnelled
            | Self::PassFragment
            | Self::PassMalformed
            | Self::PassControl
            | Self::PassUnknownVariant
            | Self::PassNotForVip => Disposition::Pass,
            Self::DropSourceNotAllowed | Self::DropCongestion | Self::DropNoRoom => {
                Disposition::Drop
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::decap::abi::VERDICT_CAPACITY;

    #[test]
    fn labels_say_what_happened_and_fit_their_counters() {
        let labels: HashSet<_> = Verdict::ALL.iter().map(|one| one.label()).collect();
        assert_eq!(labels.len(), Verdict::ALL.len());
        assert!(Verdict::ALL.len() <= VERDICT_CAPACITY);
        for verdict in Verdict::ALL {
            let expected = match verdict.disposition() {
                Disposition::Pass if verdict == Verdict::Decapsulated => "decapsulated",
                Disposition::Pass => "pass_",
                Disposition::Drop => "drop_",
            };
            assert!(verdict.label().starts_with(expected), "{}", verdict.label());
        }
    }
}
