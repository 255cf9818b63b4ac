//! The automaton itself.

use super::{Error, Event, Expect, MOST_COLUMNS, MOST_OFFERED, Packet, Step};
use crate::wire::{
    Capabilities, Reader, Status,
    error::{ERR, Refusal},
    ok::{Done, EOF, OK, ends_rows},
    packet::{HEADER, Header},
    prepared::Prepared,
    reader::NULL,
};

/// Watches the replies of one connection to a server, one after the other.
#[derive(Clone, Debug)]
pub struct Watch {
    capabilities: Capabilities,
    place: Place,
    /// Of the next packet.
    sequence: u8,
    /// Of the packet that is being forwarded.
    left: usize,
    /// The next packet belongs to the same payload.
    goes_on: bool,
}

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing.
    Ended,
    /// The beginning of an answer or of another result.
    First(Expect),
    /// So many descriptions of columns or parameters.
    Columns { left: u64, then: Then },
    /// What ends them.
    ColumnsEnd(Then),
    /// Rows, or what is like them, until an end; behind that other results perhaps.
    Rows { may_go_on: bool },
    /// The server waits for a file.
    File,
}

/// What comes behind columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Rows,
    /// Of a prepared statement, behind its parameters.
    PreparedColumns {
        columns: u16,
        is_described: bool,
    },
    Nothing,
}

impl Watch {
    /// For a connection with these capabilities: those that were agreed on with the server.
    #[must_use]
    pub const fn new(capabilities: Capabilities) -> Self {
        Self {
            capabilities,
            place: Place::Ended,
            sequence: 0,
            left: 0,
            goes_on: false,
        }
    }

    /// A command was sent; the answer's first packet has that sequence id, which is one for
    /// commands of less than 16 MiB.
    pub const fn begin(&mut self, expect: Expect, sequence: u8) {
        self.place = match expect {
            Expect::Nothing => Place::Ended,
            Expect::Done | Expect::Results | Expect::Prepared | Expect::Text => {
                Place::First(expect)
            }
            Expect::Rows | Expect::Columns | Expect::Binlog => Place::Rows { may_go_on: false },
        };
        self.sequence = sequence;
        self.left = 0;
        self.goes_on = false;
    }

    /// Whether there is no reply on its way.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.place, Place::Ended)
    }

    /// Whether the server waits for a file.
    #[must_use]
    pub const fn waits_for_file(&self) -> bool {
        matches!(self.place, Place::File)
    }

    /// The sequence id of the next packet, for an error in the middle of a reply.
    #[must_use]
    pub const fn next_sequence(&self) -> u8 {
        self.sequence
    }

    /// Whether a packet is cut in two just now, so that nothing of our own can be put behind what
    /// was forwarded.
    #[must_use]
    pub const fn is_inside_packet(&self) -> bool {
        self.left > 0 || self.goes_on
    }

    /// The client has sent its file; see [`super::FileWatch::next_sequence`].
    pub const fn file_sent(&mut self, next_sequence: u8) {
        if self.waits_for_file() {
            self.place = Place::First(Expect::Results);
            self.sequence = next_sequence;
        }
    }

    /// Looks at bytes that were read, those that were not forwarded last time before them.
    ///
    /// # Errors
    /// When that is no answer of a server to the command.
    #[inline]
    pub fn feed<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, Error> {
        let mut at = 0;
        loop {
            if self.left > 0 {
                let here = self.left.min(bytes.len() - at);
                self.left -= here;
                at += here;
                if self.left > 0 {
                    return Ok(self.needs_more(at, 1));
                }
                self.packet_passed();
            }
            if self.is_ended() {
                return if at == 0 && !bytes.is_empty() {
                    Err(Error::Unasked)
                } else {
                    Ok(self.needs_more(at, 0))
                };
            }
            let rest = &bytes[at..];
            let Some(header) = Header::read(rest) else {
                return Ok(self.needs_more(at, HEADER));
            };
            if !self.goes_on {
                if header.length == 0 {
                    return Err(Error::Malformed);
                }
                let Some(first) = rest.get(HEADER) else {
                    return Ok(self.needs_more(at, HEADER + 1));
                };
                if self.offers(*first, header.length) {
                    return self.offer(header, bytes, at);
                }
            }
            self.count(header)?;
            self.goes_on = header.goes_on();
            self.left = header.length;
            at += HEADER;
            if header.length == 0 {
                self.packet_passed();
            }
        }
    }

    const fn needs_more<'b>(&self, forward: usize, needs: usize) -> Step<'b> {
        Step {
            forward,
            event: None,
            needs,
            is_last: self.is_ended(),
        }
    }

    fn count(&mut self, header: Header) -> Result<(), Error> {
        if header.sequence != self.sequence {
            return Err(Error::OutOfOrder {
                expected: self.sequence,
                found: header.sequence,
            });
        }
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    /// Whether a packet that begins so is offered whole.
    #[inline]
    fn offers(&self, first: u8, length: usize) -> bool {
        match self.place {
            Place::Rows { .. } => first == ERR || ends_rows(first, length, self.capabilities),
            // No description of a column begins so.
            Place::Columns { .. } => first == ERR,
            Place::First(_) | Place::ColumnsEnd(_) | Place::File => true,
            Place::Ended => false,
        }
    }

    /// A packet was forwarded as a whole.
    fn packet_passed(&mut self) {
        if self.goes_on {
            return;
        }
        if let Place::Columns { left, then } = self.place {
            self.place = match left - 1 {
                0 => self.behind_columns(then),
                left => Place::Columns { left, then },
            };
        }
    }

    const fn behind_columns(&self, then: Then) -> Place {
        if self.capabilities.has(Capabilities::DEPRECATE_EOF) {
            self.behind_columns_end(then)
        } else {
            Place::ColumnsEnd(then)
        }
    }

    const fn behind_columns_end(&self, then: Then) -> Place {
        match then {
            Then::Rows => Place::Rows { may_go_on: true },
            Then::PreparedColumns {
                columns,
                is_described,
            } => self.columns(columns as u64, is_described, Then::Nothing),
            Then::Nothing => Place::Ended,
        }
    }

    /// Where so many columns come next. A server that does not describe them ends them all the
    /// same, but for those that there are none of.
    const fn columns(&self, count: u64, is_described: bool, then: Then) -> Place {
        match (count, is_described) {
            (0, _) if !matches!(then, Then::Rows) => self.behind_columns_end(then),
            (0, _) | (_, false) => self.behind_columns(then),
            (left, true) => Place::Columns { left, then },
        }
    }

    /// Takes a packet that is worth a look, if it is there as a whole.
    fn offer<'b>(&mut self, header: Header, bytes: &'b [u8], at: usize) -> Result<Step<'b>, Error> {
        let length = header.length;
        if length > MOST_OFFERED {
            return Err(Error::TooLong { length });
        }
        let Some(raw) = bytes[at..].get(..HEADER + length) else {
            return Ok(self.needs_more(at, HEADER + length));
        };
        let payload = &raw[HEADER..];
        let refusal = Refusal::read(payload);
        let is_farewell = refusal.as_ref().is_some_and(Refusal::is_farewell);
        let sequence = self.sequence;
        match self.place {
            // A server that closes does not wait for its turn.
            Place::First(_) | Place::File if is_farewell => {
                self.sequence = sequence.wrapping_add(1);
            }
            // The client counts on, and whether it is done the server does not know.
            Place::File if refusal.is_some() => self.sequence = header.sequence.wrapping_add(1),
            Place::Ended
            | Place::First(_)
            | Place::Columns { .. }
            | Place::ColumnsEnd(_)
            | Place::Rows { .. }
            | Place::File => self.count(header)?,
        }
        let packet = match refusal {
            Some(error) if error.is_progress() && self.capabilities.has(Capabilities::PROGRESS) => {
                Packet::Progress
            }
            Some(error) => {
                self.place = Place::Ended;
                Packet::Refused(error)
            }
            None => self.take(payload)?,
        };
        let event = Event {
            packet,
            raw,
            sequence,
        };
        Ok(Step {
            forward: at,
            event: Some(event),
            needs: 0,
            is_last: self.is_ended(),
        })
    }

    /// Goes on behind a packet that is no error.
    fn take<'b>(&mut self, payload: &'b [u8]) -> Result<Packet<'b>, Error> {
        let done = || Done::read(payload, self.capabilities).map_err(|_| Error::Malformed);
        let (place, packet) = match (self.place, payload.first()) {
            (Place::First(Expect::Done), _) => (Place::Ended, Packet::Done(done()?)),
            (Place::First(Expect::Text), _) => (Place::Ended, Packet::Text(payload)),
            (Place::First(Expect::Prepared), _) => {
                let prepared = Prepared::read(payload).ok_or(Error::Malformed)?;
                (self.behind_prepared(prepared), Packet::Prepared(prepared))
            }
            (Place::First(_), Some(&OK)) => {
                let done = done()?;
                (Self::behind_result(&done, true), Packet::Done(done))
            }
            (Place::First(_), Some(&EOF)) => return Err(Error::Malformed),
            (Place::First(_), Some(&NULL)) => {
                if !self.capabilities.has(Capabilities::LOCAL_FILES) {
                    return Err(Error::Malformed);
                }
                (Place::File, Packet::File(&payload[1..]))
            }
            (Place::First(_), _) => self.take_columns(payload)?,
            (Place::ColumnsEnd(then), _) => {
                let done = done()?;
                // Rows of a cursor are fetched by another command.
                let place = if done.status.has(Status::CURSOR_EXISTS) && then == Then::Rows {
                    Self::behind_result(&done, true)
                } else {
                    self.behind_columns_end(then)
                };
                let is_last_of_result = !matches!(place, Place::Rows { .. });
                let packet = if is_last_of_result && then == Then::Rows {
                    Packet::Done(done)
                } else {
                    Packet::ColumnsEnd(done)
                };
                (place, packet)
            }
            (Place::Rows { may_go_on }, _) => {
                let done = done()?;
                (Self::behind_result(&done, may_go_on), Packet::Done(done))
            }
            (Place::File, _) => return Err(Error::Unasked),
            (Place::Ended | Place::Columns { .. }, _) => return Err(Error::Malformed),
        };
        self.place = place;
        Ok(packet)
    }

    const fn behind_result(done: &Done<'_>, may_go_on: bool) -> Place {
        if may_go_on && done.status.has(Status::MORE_RESULTS) {
            Place::First(Expect::Results)
        } else {
            Place::Ended
        }
    }

    const fn behind_prepared(&self, prepared: Prepared) -> Place {
        let then = Then::PreparedColumns {
            columns: prepared.columns,
            is_described: prepared.has_metadata,
        };
        self.columns(prepared.parameters as u64, prepared.has_metadata, then)
    }

    /// The number of columns, and whether they are described.
    fn take_columns<'b>(&self, payload: &[u8]) -> Result<(Place, Packet<'b>), Error> {
        let mut reader = Reader(payload);
        let count = reader.number();
        let count = count.filter(|count| (1..=MOST_COLUMNS).contains(count));
        let count = count.ok_or(Error::Malformed)?;
        let may_lack = Capabilities::OPTIONAL_METADATA | Capabilities::CACHED_METADATA;
        let may_lack = (self.capabilities & may_lack) != Capabilities::NONE;
        let is_described = !may_lack || reader.u8().ok_or(Error::Malformed)? != 0;
        if !reader.is_empty() {
            return Err(Error::Malformed);
        }
        let place = self.columns(count, is_described, Then::Rows);
        Ok((place, Packet::Columns(count)))
    }
}
