//! Attaches the program to interfaces, and keeps it there by pinned links.

use std::{collections::BTreeMap, io};

use aya::{
    Ebpf,
    programs::{
        ProgramError, XdpMode,
        links::{FdLink, PinnedLink},
        xdp::{XdpError, XdpLink, XdpLinkId},
    },
};

use super::{
    error::{Error, chain},
    load::program,
    pins::{Hook, Pins},
    sys,
};

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In the driver.
    Native,
    /// On socket buffers.
    Generic,
}

impl Mode {
    /// The word in config and status.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// How the program should be attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Native, else generic.
    Auto,
    /// Only so.
    Only(Mode),
}

/// An interface to attach to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// Its index now.
    pub ifindex: u32,
    /// Its MTU, for messages.
    pub mtu: u32,
    /// The XDP program on it now, and how it is attached.
    pub current: Option<(Mode, u32)>,
}

/// The program on an interface.
#[derive(Debug)]
pub struct Attached {
    /// The interface's index.
    pub ifindex: u32,
    /// How it is attached.
    pub mode: Mode,
    /// The program's id.
    pub program_id: u32,
    /// Keeps the link open; the pin keeps it in place.
    _link: FdLink,
}

/// How an attachment came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// New.
    New,
    /// The pinned link of an earlier agent runs the new program now; no packet went past it.
    TakenOver,
}

/// The program on all its interfaces.
pub(super) struct Attachments {
    hook: Hook,
    ebpf: Ebpf,
    program_id: u32,
    interfaces: BTreeMap<String, Attached>,
}

impl Attachments {
    /// Of a loaded program, attached nowhere yet.
    pub(super) fn new(hook: Hook, mut ebpf: Ebpf) -> Result<Self, Error> {
        let info = program(&mut ebpf, hook)?
            .info()
            .map_err(|error| Error::Load(chain(&error)))?;
        Ok(Self {
            hook,
            ebpf,
            program_id: info.id(),
            interfaces: BTreeMap::new(),
        })
    }

    /// Where the program is attached, by interface name.
    #[must_use]
    pub(super) fn interfaces(&self) -> &BTreeMap<String, Attached> {
        &self.interfaces
    }

    /// Attaches to an interface, or takes over the pinned link on it.
    pub(super) fn attach(
        &mut self,
        pins: &Pins,
        target: &Target,
        wish: Wish,
    ) -> Result<How, Error> {
        self.interfaces.remove(&target.name);
        let taken_over = self.take_over(pins, target, wish)?;
        let (mode, link, how) = match taken_over {
            Some((mode, link)) => (mode, link, How::TakenOver),
            None => {
                let (mode, link) = self.attach_new(target, wish)?;
                let pinned = link
                    .pin(pins.link(self.hook, &target.name))
                    .map_err(|error| Error::Attach {
                        name: target.name.clone(),
                        reason: format!("its link cannot be pinned: {}", chain(&error)),
                    })?;
                (mode, FdLink::from(pinned), How::New)
            }
        };
        self.interfaces.insert(
            target.name.clone(),
            Attached {
                ifindex: target.ifindex,
                mode,
                program_id: self.program_id,
                _link: link,
            },
        );
        Ok(how)
    }

    /// Puts another program, or the own one, into every link.
    pub(super) fn replace(&mut self, pins: &Pins, other: Option<&mut Ebpf>) -> Result<(), Error> {
        let ebpf = match other {
            Some(other) => other,
            None => &mut self.ebpf,
        };
        let id = program(ebpf, self.hook)?
            .info()
            .map_err(|error| Error::Load(chain(&error)))?
            .id();
        for (name, attached) in &mut self.interfaces {
            let link = put(ebpf, pins, self.hook, name)?;
            *attached = Attached {
                ifindex: attached.ifindex,
                mode: attached.mode,
                program_id: id,
                _link: link,
            };
        }
        Ok(())
    }

    /// Forgets an interface that is gone, and its pin.
    pub(super) fn forget(&mut self, pins: &Pins, name: &str) -> Result<(), Error> {
        self.interfaces.remove(name);
        pins.remove_link(self.hook, name)
    }

    /// Detaches from interfaces that have a pinned link and are not among those to keep.
    pub(super) fn detach_others(
        &mut self,
        pins: &Pins,
        keep: &[String],
    ) -> Result<Vec<String>, Error> {
        let mut others = pins.linked_interfaces(self.hook)?;
        others.retain(|name| !keep.contains(name));
        for name in &others {
            self.forget(pins, name)?;
        }
        Ok(others)
    }

    /// Puts the program into the pinned link of an earlier agent, in one atomic step; a link that
    /// is not on this interface, or not in the mode wished for, is removed.
    fn take_over(
        &mut self,
        pins: &Pins,
        target: &Target,
        wish: Wish,
    ) -> Result<Option<(Mode, FdLink)>, Error> {
        let path = pins.link(self.hook, &target.name);
        let link = match sys::pinned_link_info(&path) {
            Ok(link) => link,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                tracing::warn!("removing the link pinned for {}: {error}", target.name);
                pins.remove_link(self.hook, &target.name)?;
                return Ok(None);
            }
        };
        // The index alone may be that of an interface in another network namespace.
        let mode = match target.current {
            Some((mode, program_id))
                if link.ifindex == target.ifindex && link.program_id == program_id =>
            {
                mode
            }
            _ => {
                tracing::warn!(
                    "the link pinned for {} is not on this {0} any more; attaching anew",
                    target.name
                );
                pins.remove_link(self.hook, &target.name)?;
                return Ok(None);
            }
        };
        if let Wish::Only(wished) = wish
            && wished != mode
        {
            tracing::warn!(
                "{} changes from {} to {}; packets pass untouched for a moment",
                target.name,
                mode.word(),
                wished.word()
            );
            pins.remove_link(self.hook, &target.name)?;
            return Ok(None);
        }
        let link = put(&mut self.ebpf, pins, self.hook, &target.name)?;
        Ok(Some((mode, link)))
    }

    fn attach_new(&mut self, target: &Target, wish: Wish) -> Result<(Mode, FdLink), Error> {
        match wish {
            Wish::Only(mode) => self
                .try_attach(target, mode)
                .map(|link| (mode, link))
                .map_err(Failure::into_error),
            Wish::Auto => match self.try_attach(target, Mode::Native) {
                Ok(link) => Ok((Mode::Native, link)),
                Err(Failure::Native { name, reason }) => {
                    tracing::warn!(
                        "{name} gets generic XDP, which is slower: native is not possible because \
                         {reason}"
                    );
                    self.try_attach(target, Mode::Generic)
                        .map(|link| (Mode::Generic, link))
                        .map_err(Failure::into_error)
                }
                Err(failure) => Err(failure.into_error()),
            },
        }
    }

    fn try_attach(&mut self, target: &Target, mode: Mode) -> Result<FdLink, Failure> {
        let flags = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
        };
        let program = program(&mut self.ebpf, self.hook).map_err(Failure::Other)?;
        let id = program
            .attach_to_if_index(target.ifindex, flags)
            .map_err(|error| Failure::of(target, mode, &error))?;
        take(&mut self.ebpf, self.hook, id, &target.name).map_err(Failure::Other)
    }
}

/// Why attaching failed, as far as it matters for what to try next.
enum Failure {
    /// Native mode is not possible; generic may be.
    Native {
        name: String,
        reason: String,
    },
    Other(Error),
}

impl Failure {
    fn of(target: &Target, mode: Mode, error: &ProgramError) -> Self {
        let name = target.name.clone();
        let errno = errno(error);
        let program_id = target.current.map(|(_, id)| id);
        match errno {
            Some(libc::EBUSY | libc::EEXIST) => Self::Other(Error::Busy { name, program_id }),
            Some(libc::ENODEV) => Self::Other(Error::Attach {
                name,
                reason: "it has just gone".into(),
            }),
            _ if mode == Mode::Generic => Self::Other(Error::Attach {
                name,
                reason: chain(error),
            }),
            Some(libc::EOPNOTSUPP) => Self::Native {
                name,
                reason: "its driver has no native XDP".into(),
            },
            Some(libc::ERANGE | libc::EINVAL | libc::E2BIG | libc::EMSGSIZE) => Self::Native {
                name,
                reason: format!(
                    "its driver refused it with the interface's present settings, most often \
                     because the MTU ({}; of a veth, that of its peer) is too large for native \
                     XDP ({})",
                    target.mtu,
                    chain(error)
                ),
            },
            _ => Self::Native {
                name,
                reason: chain(error),
            },
        }
    }

    fn into_error(self) -> Error {
        match self {
            Self::Native { name, reason } => Error::Native { name, reason },
            Self::Other(error) => error,
        }
    }
}

/// Puts a program into the pinned link of an interface.
fn put(ebpf: &mut Ebpf, pins: &Pins, hook: Hook, name: &str) -> Result<FdLink, Error> {
    let failed = |reason: String| Error::Attach {
        name: name.into(),
        reason,
    };
    let pinned =
        PinnedLink::from_pin(pins.link(hook, name)).map_err(|error| failed(chain(&error)))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| failed(chain(&error)))?;
    let id = program(ebpf, hook)?
        .attach_to_link(link)
        .map_err(|error| failed(chain(&error)))?;
    take(ebpf, hook, id, name)
}

/// Takes a link out of aya's hands, which would detach it when the program is dropped. Where
/// aya fell back to netlink there is no link that could outlive the agent, and the program
/// goes again.
fn take(ebpf: &mut Ebpf, hook: Hook, id: XdpLinkId, name: &str) -> Result<FdLink, Error> {
    let failed = |reason: String| Error::Attach {
        name: name.into(),
        reason,
    };
    let link = program(ebpf, hook)?
        .take_link(id)
        .map_err(|error| failed(chain(&error)))?;
    FdLink::try_from(link).map_err(|_| {
        failed("this kernel has no links for XDP programs (Linux 5.9 or later has)".into())
    })
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others come from no system call"
)]
fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    }
}
