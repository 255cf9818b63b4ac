//! The programs that take connections of this host into the MySQL proxy: they adapt
//! `lb_common::intercept` to the hooks of a cgroup and decide nothing themselves.
//!
//! On the host it is an empty program, so that the workspace can be checked as a whole.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod runtime;

#[cfg(target_arch = "bpf")]
mod program {
    use core::ptr;

    use aya_ebpf::{
        bindings::bpf_sock_addr,
        btf_maps::SkStorage,
        helpers::{
            bpf_get_current_pid_tgid,
            generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
        },
        macros::{btf_map, cgroup_sock_addr, map},
        maps::{Array, HashMap, PerCpuArray},
        programs::SockAddrContext,
    };
    use lb_common::{
        address::Address,
        intercept::{self, Attempt, Counters, Decision, Endpoint, Host, MOST_SERVERS, Settings},
    };

    const NO_PREALLOC: u32 = 1;
    const SOCK_STREAM: u32 = 1;
    const IPPROTO_TCP: u32 = 6;
    const IPPROTO_MPTCP: u32 = 262;
    /// What these hooks return so that the call goes on.
    const GO_ON: i32 = 1;

    #[map]
    static TAKE_SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);
    #[map]
    static TAKE_SERVERS: HashMap<Endpoint, u32> =
        HashMap::with_max_entries(MOST_SERVERS, NO_PREALLOC);
    #[map]
    static TAKE_AGENT: Array<u32> = Array::with_max_entries(1, 0);
    #[map]
    static TAKE_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(1, 0);
    #[btf_map]
    static TAKE_WANTED: SkStorage<Endpoint> = SkStorage::new();

    /// The socket that connects, and who connects it.
    struct KernelHost<'c>(&'c SockAddrContext);

    impl Host for KernelHost<'_> {
        #[inline(always)]
        fn settings(&self) -> Option<&Settings> {
            TAKE_SETTINGS.get(0)
        }

        #[inline(always)]
        fn is_server(&self, endpoint: &Endpoint) -> bool {
            TAKE_SERVERS.get_ptr(endpoint).is_some()
        }

        #[inline(always)]
        fn socket(&self) -> u64 {
            // SAFETY: the helper takes this program's context, which this is.
            unsafe { bpf_get_socket_cookie(self.0.sock_addr.cast()) }
        }

        #[inline(always)]
        fn namespace(&self) -> u64 {
            // SAFETY: the helper takes this program's context, which this is.
            unsafe { bpf_get_netns_cookie(self.0.sock_addr.cast()) }
        }

        #[inline(always)]
        fn process(&self) -> u32 {
            (bpf_get_current_pid_tgid() >> 32) as u32
        }
    }

    /// Reads a field of the context, of four bytes, as the kernel wants it.
    macro_rules! load {
        ($context:expr, $($field:tt)+) => {
            // SAFETY: the kernel calls the program with a context that outlives it, and lets this
            // hook read the field; volatile, so that it is read as a whole and by itself.
            unsafe { ptr::read_volatile(&raw const (*$context).$($field)+) }
        };
    }

    /// Writes a field of the context, of four bytes.
    macro_rules! store {
        ($context:expr, $value:expr, $($field:tt)+) => {
            // SAFETY: as above, and the kernel lets this hook write the field.
            unsafe { ptr::write_volatile(&raw mut (*$context).$($field)+, $value) }
        };
    }

    #[inline(always)]
    fn port(context: *mut bpf_sock_addr) -> u16 {
        u16::from_be(load!(context, user_port) as u16)
    }

    #[inline(always)]
    fn set_port(context: *mut bpf_sock_addr, port: u32) {
        store!(context, u32::from((port as u16).to_be()), user_port);
    }

    #[inline(always)]
    fn set_v4(context: *mut bpf_sock_addr, endpoint: &Endpoint) {
        store!(
            context,
            u32::from_ne_bytes(endpoint.address.v4_octets()),
            user_ip4
        );
        set_port(context, endpoint.port);
    }

    #[inline(always)]
    fn v6(context: *mut bpf_sock_addr) -> Address {
        let pair = |first: u32, second: u32| {
            let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
            u64::from_ne_bytes([a, b, c, d, e, f, g, h])
        };
        Address::from_words([
            pair(load!(context, user_ip6[0]), load!(context, user_ip6[1])),
            pair(load!(context, user_ip6[2]), load!(context, user_ip6[3])),
        ])
    }

    #[inline(always)]
    fn set_v6(context: *mut bpf_sock_addr, endpoint: &Endpoint) {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = endpoint.address.octets();
        store!(context, u32::from_ne_bytes([a, b, c, d]), user_ip6[0]);
        store!(context, u32::from_ne_bytes([e, f, g, h]), user_ip6[1]);
        store!(context, u32::from_ne_bytes([i, j, k, l]), user_ip6[2]);
        store!(context, u32::from_ne_bytes([m, n, o, p]), user_ip6[3]);
        set_port(context, endpoint.port);
    }

    /// Takes connects of IPv4 sockets.
    #[cgroup_sock_addr(connect4)]
    pub(crate) fn intercept_v4(context: SockAddrContext) -> i32 {
        let raw = context.sock_addr;
        let address = Address::from_v4(load!(raw, user_ip4).to_ne_bytes());
        let decision = connect(&context, address, false);
        if let Some(to) = target(decision) {
            set_v4(raw, to);
        }
        GO_ON
    }

    /// Takes connects of IPv6 sockets.
    #[cgroup_sock_addr(connect6)]
    pub(crate) fn intercept_v6(context: SockAddrContext) -> i32 {
        let raw = context.sock_addr;
        let decision = connect(&context, v6(raw), true);
        if let Some(to) = target(decision) {
            set_v6(raw, to);
        }
        GO_ON
    }

    /// Tells a program the address that it connected an IPv4 socket to.
    #[cgroup_sock_addr(getpeername4)]
    pub(crate) fn peer_name_v4(context: SockAddrContext) -> i32 {
        if let Some(wanted) = wanted(&context) {
            set_v4(context.sock_addr, wanted);
        }
        GO_ON
    }

    /// The same of an IPv6 socket.
    #[cgroup_sock_addr(getpeername6)]
    pub(crate) fn peer_name_v6(context: SockAddrContext) -> i32 {
        if let Some(wanted) = wanted(&context) {
            set_v6(context.sock_addr, wanted);
        }
        GO_ON
    }

    /// Where a connect goes instead.
    #[inline(always)]
    fn target(decision: Decision) -> Option<&'static Endpoint> {
        let settings = TAKE_SETTINGS.get(0)?;
        match decision {
            Decision::ToV4 => Some(&settings.v4),
            Decision::ToV6 => Some(&settings.v6),
            Decision::Elsewhere
            | Decision::Probe
            | Decision::OtherNamespace
            | Decision::Own
            | Decision::NoListener => None,
        }
    }

    /// Decides, and notes what that takes.
    #[inline(always)]
    fn connect(context: &SockAddrContext, address: Address, is_v6_socket: bool) -> Decision {
        let raw = context.sock_addr;
        let protocol = load!(raw, protocol);
        let attempt = Attempt {
            destination: Endpoint::new(address, port(raw)),
            is_v6_socket,
            is_tcp: load!(raw, type_) == SOCK_STREAM
                && (protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP),
        };
        let decision = intercept::decide(&attempt, &KernelHost(context));
        count(decision);
        match decision {
            Decision::ToV4 | Decision::ToV6 => note(context, attempt.destination),
            Decision::Probe => {
                if let Some(agent) = TAKE_AGENT.get_ptr_mut(0) {
                    // SAFETY: the value is one word, and only the agent's one probe writes it.
                    unsafe { agent.write(KernelHost(context).process()) }
                }
            }
            Decision::Elsewhere
            | Decision::OtherNamespace
            | Decision::Own
            | Decision::NoListener => {
                // A socket may be connected anew after a failure.
                if wanted(context).is_some() {
                    note(context, Endpoint::default());
                }
            }
        }
        decision
    }

    /// Where the socket was to be connected to, if that is not where it is.
    #[inline(always)]
    fn wanted(context: &SockAddrContext) -> Option<&Endpoint> {
        // SAFETY: the context holds the socket, which lives as long as the call that this program
        // is part of.
        let wanted = unsafe { TAKE_WANTED.get_ptr_mut(context).as_ref() }?;
        wanted.is_some().then_some(wanted)
    }

    #[inline(always)]
    fn note(context: &SockAddrContext, mut endpoint: Endpoint) {
        // SAFETY: as in `wanted`; a socket is connected by one call at a time, which holds its
        // lock.
        let wanted = unsafe {
            TAKE_WANTED
                .get_or_insert_ptr_mut(context, Some(&mut endpoint))
                .as_mut()
        };
        if let Some(wanted) = wanted {
            *wanted = endpoint;
        }
    }

    #[inline(always)]
    fn count(decision: Decision) {
        let Some(counters) = TAKE_COUNTERS.get_ptr_mut(0) else {
            return;
        };
        // SAFETY: the value belongs to this CPU. A program of a cgroup may be interrupted by
        // another connect on its CPU on some kernels; then a connect is not counted.
        let counters = unsafe { &mut *counters };
        match decision {
            Decision::ToV4 | Decision::ToV6 => counters.intercepted += 1,
            Decision::Own => counters.own += 1,
            Decision::OtherNamespace => counters.other_namespace += 1,
            Decision::NoListener => counters.no_listener += 1,
            Decision::Elsewhere | Decision::Probe => {}
        }
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
