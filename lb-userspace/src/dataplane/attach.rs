//! Attaches the program to interfaces, and keeps it there by pinned links.

use std::{collections::BTreeMap, io};

use aya::programs::{
    ProgramError, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::{XdpError, XdpLink, XdpLinkId},
};

use super::{
    error::{Error, chain},
    load::Program,
    pins::{Hook, Pins},
    privilege, sys,
    twin::TwinSource,
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
    program: Program,
    program_id: u32,
    is_multi_buffer: bool,
    interfaces: BTreeMap<String, Attached>,
}

impl Attachments {
    /// Of a loaded program, attached nowhere yet.
    pub(super) fn new(hook: Hook, mut program: Program) -> Result<Self, Error> {
        Ok(Self {
            hook,
            program_id: program.id()?,
            program,
            is_multi_buffer: false,
            interfaces: BTreeMap::new(),
        })
    }

    /// Where the program is attached, by interface name.
    #[must_use]
    pub(super) fn interfaces(&self) -> &BTreeMap<String, Attached> {
        &self.interfaces
    }

    /// Whether the program is the one for frames in several buffers.
    #[must_use]
    pub(super) const fn is_multi_buffer(&self) -> bool {
        self.is_multi_buffer
    }

    /// Attaches to an interface, or takes over the pinned link on it. Where frames are too large for
    /// the program, the one for frames in several buffers takes its place, if it can be loaded.
    pub(super) fn attach(
        &mut self,
        pins: &Pins,
        target: &Target,
        wish: Wish,
        source: Option<&TwinSource>,
    ) -> Result<How, Error> {
        self.interfaces.remove(&target.name);
        let taken_over = self.take_over(pins, target, wish, source)?;
        let (mode, link, how) = match taken_over {
            Some((mode, link)) => (mode, link, How::TakenOver),
            None => {
                let (mode, link) = self.attach_new(pins, target, wish, source)?;
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

    /// Puts another program, or the own one, into every link. One that fails does not keep the
    /// others from it; what it says is returned.
    pub(super) fn replace(
        &mut self,
        pins: &Pins,
        other: Option<&mut Program>,
    ) -> Result<(), Error> {
        let program = match other {
            Some(other) => other,
            None => &mut self.program,
        };
        let id = program.id()?;
        let mut result = Ok(());
        for (name, attached) in &mut self.interfaces {
            match put(program, pins, self.hook, name) {
                Ok(link) => {
                    *attached = Attached {
                        ifindex: attached.ifindex,
                        mode: attached.mode,
                        program_id: id,
                        _link: link,
                    };
                }
                Err(fault) => result = result.and(Err(fault.into_error(name))),
            }
        }
        result
    }

    /// Puts a program in the present one's place, on every interface or on none.
    pub(super) fn exchange(&mut self, pins: &Pins, mut program: Program) -> Result<(), Error> {
        let id = program.id()?;
        let before = std::mem::replace(&mut self.program, program);
        if let Err(error) = self.replace(pins, None) {
            self.program = before;
            if let Err(error) = self.replace(pins, None) {
                tracing::error!("{error}");
            }
            return Err(error);
        }
        self.program_id = id;
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
        source: Option<&TwinSource>,
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
        let hook = self.hook;
        let link = self
            .fitting(pins, target, wish, source, |program| {
                put(program, pins, hook, &target.name).map_err(|fault| match fault {
                    Fault::Kernel(error) => Failure::of(target, mode, &error),
                    Fault::Other(reason) => Failure::Other(Error::Attach {
                        name: target.name.clone(),
                        reason,
                    }),
                })
            })
            .map_err(Failure::into_error)?;
        Ok(Some((mode, link)))
    }

    fn attach_new(
        &mut self,
        pins: &Pins,
        target: &Target,
        wish: Wish,
        source: Option<&TwinSource>,
    ) -> Result<(Mode, FdLink), Error> {
        let mut attach = |mode| {
            self.fitting(pins, target, wish, source, |program| {
                attach_to(program, target, mode)
            })
            .map(|link| (mode, link))
        };
        match wish {
            Wish::Only(mode) => attach(mode).map_err(Failure::into_error),
            Wish::Auto => match attach(Mode::Native) {
                Err(Failure::Native { name, reason, .. }) => {
                    tracing::warn!(
                        "{name} gets generic XDP, which is slower: native is not possible because \
                         {reason}"
                    );
                    attach(Mode::Generic).map_err(Failure::into_error)
                }
                other => other.map_err(Failure::into_error),
            },
        }
    }

    /// Attaches the program; where its driver may have refused it because frames take several
    /// buffers, the program for those, which then replaces it everywhere.
    ///
    /// The driver is asked, and not the MTU: a veth goes by that of its peer, many drivers by sizes
    /// of buffers that only they know, and one that takes the program for single buffers has the
    /// faster path for it.
    fn fitting(
        &mut self,
        pins: &Pins,
        target: &Target,
        wish: Wish,
        source: Option<&TwinSource>,
        attach: impl Fn(&mut Program) -> Result<FdLink, Failure>,
    ) -> Result<FdLink, Failure> {
        let failure = match attach(&mut self.program) {
            Err(failure) if failure.is_of_size() && !self.is_multi_buffer => failure,
            done => return done,
        };
        let Some(source) = source else {
            return Err(failure);
        };
        let native = |reason: String| Failure::Native {
            name: target.name.clone(),
            reason,
            is_of_size: false,
        };
        if let Some(reason) = too_old(wish, target.mtu) {
            return Err(native(reason));
        }
        let mut program = source
            .load_for_frags()
            .map_err(|error| native(error.to_string()))?;
        let link = attach(&mut program)?;
        self.program_id = program.id().map_err(Failure::Other)?;
        self.program = program;
        self.is_multi_buffer = true;
        tracing::info!(
            "frames on {} take several buffers (MTU {}; of a veth, that of its peer), and the \
             program is the one for those from now on",
            target.name,
            target.mtu
        );
        self.replace(pins, None).map_err(Failure::Other)?;
        Ok(link)
    }
}

/// The kernel that has programs for frames in several buffers.
const FRAGS_KERNEL: (u32, u32) = (5, 18);
/// The kernel that sends such frames out by another interface than the one they came by; before,
/// they are dropped there.
const FRAGS_REDIRECT_KERNEL: (u32, u32) = (6, 3);

/// Why this kernel cannot natively steer frames in several buffers. Who insists on native mode gets
/// it where it works for frames that leave by the interface they came by.
fn too_old(wish: Wish, mtu: u32) -> Option<String> {
    let needed = match wish {
        Wish::Auto => FRAGS_REDIRECT_KERNEL,
        Wish::Only(_) => FRAGS_KERNEL,
    };
    if let Some(found) = privilege::older_than(needed) {
        return Some(older(&found, needed, mtu));
    }
    if let Some(found) = privilege::older_than(FRAGS_REDIRECT_KERNEL) {
        let (major, minor) = FRAGS_REDIRECT_KERNEL;
        tracing::warn!(
            "frames of more than a page cannot leave by another interface than the one they came \
             by before Linux {major}.{minor}, and this is {found}: set `agent.xdp_mode` to \
             \"auto\" or \"generic\" if they have to"
        );
    }
    None
}

fn older(found: &str, (major, minor): (u32, u32), mtu: u32) -> String {
    format!(
        "frames of its MTU ({mtu}; of a veth, that of its peer) take several buffers, for which \
         Linux {major}.{minor} or later is needed, and this kernel is {found}: lower the MTU to \
         3400 or less for native XDP"
    )
}

fn attach_to(program: &mut Program, target: &Target, mode: Mode) -> Result<FdLink, Failure> {
    let flags = match mode {
        Mode::Native => XdpMode::Driver,
        Mode::Generic => XdpMode::Skb,
    };
    let id = program
        .xdp()
        .map_err(Failure::Other)?
        .attach_to_if_index(target.ifindex, flags)
        .map_err(|error| Failure::of(target, mode, &error))?;
    take(program, id).map_err(|reason| {
        Failure::Other(Error::Attach {
            name: target.name.clone(),
            reason,
        })
    })
}

/// Frames of this size fit into one buffer of every driver.
const USUAL_MTU: u32 = 1500;

/// Why attaching failed, as far as it matters for what to try next.
enum Failure {
    /// Native mode is not possible; generic may be.
    Native {
        name: String,
        reason: String,
        /// It may be because of how large frames can be.
        is_of_size: bool,
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
            // Some say this of a large MTU (ice, bnxt, mvneta).
            Some(libc::EOPNOTSUPP) => Self::Native {
                name,
                reason: "its driver has no native XDP".into(),
                is_of_size: target.mtu > USUAL_MTU,
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
                is_of_size: true,
            },
            _ => Self::Native {
                name,
                reason: chain(error),
                is_of_size: false,
            },
        }
    }

    const fn is_of_size(&self) -> bool {
        matches!(
            self,
            Self::Native {
                is_of_size: true,
                ..
            }
        )
    }

    fn into_error(self) -> Error {
        match self {
            Self::Native { name, reason, .. } => Error::Native { name, reason },
            Self::Other(error) => error,
        }
    }
}

/// Why a program could not be put into a link.
enum Fault {
    /// The kernel refused it.
    Kernel(ProgramError),
    /// In words.
    Other(String),
}

impl Fault {
    fn into_error(self, name: &str) -> Error {
        Error::Attach {
            name: name.to_owned(),
            reason: match self {
                Self::Kernel(error) => chain(&error),
                Self::Other(reason) => reason,
            },
        }
    }
}

/// Puts a program into the pinned link of an interface.
fn put(program: &mut Program, pins: &Pins, hook: Hook, name: &str) -> Result<FdLink, Fault> {
    let other = |error: &dyn std::error::Error| Fault::Other(chain(error));
    let pinned = PinnedLink::from_pin(pins.link(hook, name)).map_err(|error| other(&error))?;
    let link = XdpLink::try_from(FdLink::from(pinned)).map_err(|error| other(&error))?;
    let id = program
        .xdp()
        .map_err(|error| other(&error))?
        .attach_to_link(link)
        .map_err(Fault::Kernel)?;
    take(program, id).map_err(Fault::Other)
}

/// Takes a link out of aya's hands, which would detach it when the program is dropped. Where
/// aya fell back to netlink there is no link that could outlive the agent, and the program
/// goes again.
fn take(program: &mut Program, id: XdpLinkId) -> Result<FdLink, String> {
    let program = program.xdp().map_err(|error| error.to_string())?;
    let link = program.take_link(id).map_err(|error| chain(&error))?;
    FdLink::try_from(link).map_err(|_| {
        "this kernel has no links for XDP programs (Linux 5.9 or later has)".to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_frames_in_several_buffers_is_told_in_a_sentence() {
        let error = Error::Native {
            name: "eth0".to_owned(),
            reason: older("5.15.0-91-generic", FRAGS_KERNEL, 9000),
        };
        assert_eq!(
            error.to_string(),
            "cannot attach natively to eth0: frames of its MTU (9000; of a veth, that of its peer) \
             take several buffers, for which Linux 5.18 or later is needed, and this kernel is \
             5.15.0-91-generic: lower the MTU to 3400 or less for native XDP; set \
             `agent.xdp_mode = \"auto\"` or \"generic\" to run on socket buffers instead"
        );
    }
}
