//! The programs that take connections of this host into the MySQL proxy.
//!
//! Nothing of them is pinned: they are attached by links that this process alone holds, so the
//! kernel detaches them when it ends, however it ends, and connects reach the servers again.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray},
    programs::{CgroupAttachMode, CgroupSockAddr, ProgramError},
};
use lb_common::intercept::{Counters, Endpoint, MOST_SERVERS, Settings, maps, programs};

use super::{
    error::{Error, chain},
    load::{load_failed, refused, without_signals},
    plain::Plain,
    privilege, sys,
};

/// The programs, compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lb-intercept.o"));

/// Where the kernel says what is mounted where.
const MOUNTS: &str = "/proc/self/mountinfo";

/// Connections of this host's programs go into the proxy for as long as this lives.
pub struct Interceptor {
    cgroup: PathBuf,
    settings: Array<MapData, Plain<Settings>>,
    servers: HashMap<MapData, Plain<Endpoint>, u32>,
    counters: PerCpuArray<MapData, Plain<Counters>>,
    /// What the servers' table holds.
    written: Vec<Endpoint>,
    // The links are in there.
    _ebpf: Ebpf,
}

impl Interceptor {
    /// Takes connects to `servers`, made by processes in a cgroup and its children, to the first
    /// address of `listen` of each family. The root of cgroup v2 has all processes.
    pub fn start(
        cgroup: Option<&Path>,
        listen: &[SocketAddr],
        servers: &[SocketAddr],
    ) -> Result<Self, Error> {
        privilege::check_intercept()?;
        let (cgroup, directory) = self::cgroup(cgroup)?;
        let mut ebpf = EbpfLoader::new().load(OBJECT).map_err(load_failed)?;
        let agent = take(&mut ebpf, maps::AGENT)?;
        let agent: Array<_, u32> = agent.try_into().map_err(failed(maps::AGENT, "read"))?;
        let settings = take(&mut ebpf, maps::SETTINGS)?;
        let servers_table = take(&mut ebpf, maps::SERVERS)?;
        let counters = take(&mut ebpf, maps::COUNTERS)?;
        // Names of peers first: what is taken has to be told right from the beginning.
        for name in programs::PEER.into_iter().chain(programs::CONNECT) {
            attach(&mut ebpf, name, &directory, &cgroup)?;
        }
        let mut interceptor = Self {
            cgroup,
            settings: settings
                .try_into()
                .map_err(failed(maps::SETTINGS, "write"))?,
            servers: servers_table
                .try_into()
                .map_err(failed(maps::SERVERS, "write"))?,
            counters: counters
                .try_into()
                .map_err(failed(maps::COUNTERS, "read"))?,
            written: Vec::new(),
            _ebpf: ebpf,
        };
        interceptor.set_servers(servers)?;
        let mut settings = interceptor.introduce(&agent)?;
        settings.v4 = door(listen, SocketAddr::is_ipv4);
        settings.v6 = door(listen, SocketAddr::is_ipv6);
        // In two steps: whoever sees that it is on sees all else.
        interceptor.set(settings)?;
        settings.is_on = 1;
        interceptor.set(settings)?;
        Ok(interceptor)
    }

    /// Takes connects to these from now on.
    pub fn set_servers(&mut self, servers: &[SocketAddr]) -> Result<(), Error> {
        let wanted: Vec<Endpoint> = servers.iter().map(endpoint).collect();
        if wanted.len() > MOST_SERVERS as usize {
            return Err(Error::Full {
                what: "servers",
                capacity: MOST_SERVERS,
                needed: wanted.len(),
            });
        }
        let write = failed(maps::SERVERS, "write");
        for gone in self.written.iter().filter(|one| !wanted.contains(one)) {
            self.servers.remove(&Plain(*gone)).map_err(&write)?;
        }
        for endpoint in &wanted {
            self.servers
                .insert(Plain(*endpoint), 1, 0)
                .map_err(&write)?;
        }
        self.written = wanted;
        Ok(())
    }

    /// Whose connects are taken.
    #[must_use]
    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> Vec<String> {
        let servers = self.written.iter().map(|one| {
            let port = u16::try_from(one.port).unwrap_or_default();
            SocketAddr::new(one.address.into(), port).to_string()
        });
        servers.collect()
    }

    /// Connects to the servers, by what became of them.
    pub fn counters(&self) -> Result<Counters, Error> {
        let mut sum = Counters::default();
        let values = self.counters.get(&0, 0);
        for Plain(cpu) in values.map_err(failed(maps::COUNTERS, "read"))?.iter() {
            sum.intercepted += cpu.intercepted;
            sum.own += cpu.own;
            sum.other_namespace += cpu.other_namespace;
            sum.no_listener += cpu.no_listener;
        }
        Ok(sum)
    }

    fn set(&mut self, settings: Settings) -> Result<(), Error> {
        self.settings
            .set(0, Plain(settings), 0)
            .map_err(failed(maps::SETTINGS, "write"))
    }

    /// Has the programs see this process connect, so that they know it.
    fn introduce(&mut self, agent: &Array<MapData, u32>) -> Result<Settings, Error> {
        let path = self.cgroup.clone();
        let cannot = |source| Error::Path {
            action: "make this process known to the programs of the cgroup",
            path: path.clone(),
            source,
        };
        // Connecting a UDP socket sends nothing. A host may lack one of the families.
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .or_else(|_| UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)))
            .map_err(cannot)?;
        let own = socket.local_addr().map_err(cannot)?;
        let mut settings = Settings {
            namespace: sys::namespace_cookie(socket.as_fd()).map_err(cannot)?,
            probe: sys::socket_cookie(socket.as_fd()).map_err(cannot)?,
            ..Settings::default()
        };
        self.set(settings)?;
        socket.connect(own).map_err(cannot)?;
        settings.probe = 0;
        settings.agent = match agent.get(&0, 0).map_err(failed(maps::AGENT, "read"))? {
            // It is not in the cgroup, so its connects are not taken either. It may be moved there;
            // outside containers this is its number.
            0 => std::process::id(),
            seen => seen,
        };
        Ok(settings)
    }
}

/// The cgroup whose processes are meant; without one, the root of cgroup v2.
pub fn cgroup(wanted: Option<&Path>) -> Result<(PathBuf, File), Error> {
    let path = match wanted {
        Some(path) => path.to_owned(),
        None => root(&fs::read_to_string(MOUNTS).unwrap_or_default()).ok_or(Error::NoCgroup)?,
    };
    let opened = File::open(&path);
    let directory = opened.map_err(|source| Error::Path {
        action: "open the cgroup",
        path: path.clone(),
        source,
    })?;
    Ok((path, directory))
}

fn attach(ebpf: &mut Ebpf, name: &str, directory: &File, cgroup: &Path) -> Result<(), Error> {
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| Error::Load(format!("the object has no program {name}")))?;
    let program: &mut CgroupSockAddr = program
        .try_into()
        .map_err(|error: ProgramError| Error::Load(chain(&error)))?;
    without_signals(|| program.load().map_err(refused))?;
    // Links are always beside others, and refuse to be told so.
    let attached = program.attach(directory, CgroupAttachMode::Single);
    attached.map_err(|error| Error::Cgroup {
        path: cgroup.to_owned(),
        reason: chain(&error),
    })?;
    Ok(())
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map, Error> {
    let map = ebpf.take_map(name);
    map.ok_or_else(|| Error::Load(format!("the object has no table {name}")))
}

fn failed(table: &'static str, action: &'static str) -> impl Fn(MapError) -> Error {
    move |error| Error::Table {
        table,
        action,
        reason: chain(&error),
    }
}

fn endpoint(address: &SocketAddr) -> Endpoint {
    Endpoint::new(address.ip().to_canonical().into(), address.port())
}

/// Where the proxy is reached by one family, from this host.
fn door(listen: &[SocketAddr], is_of_family: fn(&SocketAddr) -> bool) -> Endpoint {
    let mut addresses = listen.iter().copied();
    let Some(mut address) = addresses.find(is_of_family) else {
        return Endpoint::default();
    };
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    endpoint(&address)
}

/// Where cgroup v2 is mounted, whole, by what the kernel says of mounts.
fn root(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let is_whole = fields.next()? == "/";
        let at = fields.next()?;
        (is_whole && kind.split(' ').next()? == "cgroup2").then(|| PathBuf::from(at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup_v2_is_found_where_it_is_mounted() {
        let v1 = "35 27 0:30 / /sys/fs/cgroup/cpu rw,relatime shared:9 - cgroup cgroup rw,cpu";
        let part = "41 27 0:36 /lb /mnt/part rw,relatime - cgroup2 cgroup2 rw";
        let whole = "42 27 0:36 / /sys/fs/cgroup/unified rw,relatime shared:1 - cgroup2 none rw";
        let all = [v1, part, whole].join("\n");
        assert_eq!(root(&all), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(root(&[v1, part, "odd"].join("\n")), None);
    }

    #[test]
    fn the_proxy_is_reached_by_the_first_address_of_a_family() {
        let found = |listen: &[&str], is_of_family| {
            let listen: Vec<SocketAddr> = listen.iter().map(|one| one.parse().unwrap()).collect();
            door(&listen, is_of_family)
        };
        let expected = |text: &str| endpoint(&text.parse().unwrap());
        let list = ["[::]:3308", "10.0.0.1:3306", "127.0.0.1:3307"];
        assert_eq!(found(&list, SocketAddr::is_ipv4), expected("10.0.0.1:3306"));
        assert_eq!(found(&list, SocketAddr::is_ipv6), expected("[::1]:3308"));
        assert_eq!(
            found(&["0.0.0.0:1"], SocketAddr::is_ipv4),
            expected("127.0.0.1:1")
        );
        assert!(!found(&list[1..], SocketAddr::is_ipv6).is_some());
    }
}
