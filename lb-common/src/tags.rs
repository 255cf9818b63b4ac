//! VLAN tags: none, one (IEEE 802.1Q), or two (802.1ad, "QinQ").

/// The VLAN tags of a frame. Priorities are not part of it: what we send has priority 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// VLAN id of the only or inner tag, and above its 12 bits [`HAS_INNER`] and so on.
    inner: u16,
    /// VLAN id of the outer tag.
    outer: u16,
}

const VLAN_ID: u16 = 0x0fff;
const HAS_INNER: u16 = 1 << 12;
const HAS_OUTER: u16 = 1 << 13;
/// The first tag's EtherType is that of IEEE 802.1ad.
const IS_SERVICE: u16 = 1 << 14;

impl Tags {
    /// No tag.
    pub const NONE: Self = Self { inner: 0, outer: 0 };

    /// One tag; of its tag control information only the VLAN id is kept.
    #[inline(always)]
    #[must_use]
    pub const fn one(tci: u16, is_service: bool) -> Self {
        let service = if is_service { IS_SERVICE } else { 0 };
        Self {
            inner: (tci & VLAN_ID) | HAS_INNER | service,
            outer: 0,
        }
    }

    /// Two tags.
    #[inline(always)]
    #[must_use]
    pub const fn two(outer: u16, inner: u16, is_service: bool) -> Self {
        Self {
            inner: Self::one(inner, is_service).inner | HAS_OUTER,
            outer: outer & VLAN_ID,
        }
    }

    /// Of a next hop: 0 is no tag.
    #[inline(always)]
    #[must_use]
    pub const fn of_next_hop(vlan: u16, outer_vlan: u16) -> Self {
        if vlan == 0 {
            Self::NONE
        } else if outer_vlan == 0 {
            Self::one(vlan, false)
        } else {
            Self::two(outer_vlan, vlan, true)
        }
    }

    /// How many.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> usize {
        (self.inner & HAS_INNER != 0) as usize + (self.inner & HAS_OUTER != 0) as usize
    }

    /// Whether the first tag is one of IEEE 802.1ad.
    #[inline(always)]
    #[must_use]
    pub const fn is_service(self) -> bool {
        self.inner & IS_SERVICE != 0
    }

    /// VLAN id of the only or inner tag; 0 without one.
    #[inline(always)]
    #[must_use]
    pub const fn inner(self) -> u16 {
        self.inner & VLAN_ID
    }

    /// VLAN id of the outer of two tags; else 0.
    #[inline(always)]
    #[must_use]
    pub const fn outer(self) -> u16 {
        self.outer
    }

    /// Both as one number.
    #[inline(always)]
    pub(crate) const fn number(self) -> u32 {
        self.inner as u32 | (self.outer as u32) << 16
    }

    /// From [`Tags::number`].
    #[inline(always)]
    pub(crate) const fn of_number(number: u32) -> Self {
        Self {
            inner: number as u16,
            outer: (number >> 16) as u16,
        }
    }

    /// As a flow holds them: 16 and 12 bits.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> (u16, u16) {
        (self.inner, self.outer)
    }

    /// From [`Tags::words`].
    #[inline(always)]
    #[must_use]
    pub const fn from_words(inner: u16, outer: u16) -> Self {
        Self { inner, outer }
    }
}
