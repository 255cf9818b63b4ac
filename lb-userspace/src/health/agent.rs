//! HAProxy's agent-check: what a server says of itself, beside what its check says.
//!
//! One line of words. What it does not speak of stays as it was, so that a server may tell of its
//! load only, or of its state only.

use std::{fmt, io, net::SocketAddr};

use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    time::{Instant, timeout_at},
};

use super::probe::{bounded, first_line, system_words};
use crate::control::State;

/// Bytes of the line that are read at most.
const LONGEST: usize = 256;

/// What a server's agent asked for so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentWord {
    /// Of its weight, 0 to 100.
    pub weight_percent: u8,
    /// Its administrative state.
    pub state: State,
    /// Whether it is down, whatever its check says.
    pub is_down: bool,
}

impl Default for AgentWord {
    fn default() -> Self {
        Self {
            weight_percent: 100,
            state: State::Ready,
            is_down: false,
        }
    }
}

impl AgentWord {
    /// What stands after a line; nothing where it has a word that nobody knows.
    fn after(self, line: &str) -> Option<Self> {
        let mut now = self;
        // A description ends the line.
        let words = line.split('#').next().unwrap_or_default();
        let mut is_empty = true;
        for word in words
            .split([' ', '\t', ','])
            .filter(|word| !word.is_empty())
        {
            is_empty = false;
            match word.to_ascii_lowercase().as_str() {
                "up" => now.is_down = false,
                "down" | "fail" | "failed" | "stopped" => now.is_down = true,
                "ready" => now.state = State::Ready,
                "drain" => now.state = State::Drain,
                "maint" => now.state = State::Maint,
                word if word.starts_with("maxconn:") => {}
                word => {
                    let percent: u32 = word.strip_suffix('%')?.parse().ok()?;
                    now.weight_percent = percent.min(100) as u8;
                }
            }
        }
        (!is_empty).then_some(now)
    }
}

impl fmt::Display for AgentWord {
    /// "up, ready, 100%"
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = if self.is_down { "down" } else { "up" };
        let (state, percent) = (self.state.word(), self.weight_percent);
        write!(f, "{operation}, {state}, {percent}%")
    }
}

/// Asks a server's agent. One that does not answer, or not in words that are known, changes
/// nothing: whether the server can be reached is the check's business.
pub(super) async fn ask(
    address: SocketAddr,
    deadline: Instant,
    word: &mut Option<AgentWord>,
) -> String {
    let line = match timeout_at(deadline, read(address)).await {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => return format!("its agent does not answer: {}", system_words(&error)),
        Err(_) => return "its agent does not answer in time".to_owned(),
    };
    let Some(said) = first_line(&line) else {
        return "its agent says nothing".to_owned();
    };
    match word.unwrap_or_default().after(&said) {
        Some(now) => {
            *word = Some(now);
            format!("its agent says {}", bounded(&said))
        }
        None => format!("its agent says {said:?}, which is no word of an agent-check"),
    }
}

/// The first line, as far as it comes.
async fn read(address: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let mut line = vec![0; LONGEST];
    let mut length = 0;
    while length < LONGEST {
        let read = stream.read(&mut line[length..]).await?;
        let is_end = line[length..length + read]
            .iter()
            .any(|byte| [b'\r', b'\n'].contains(byte));
        length += read;
        if is_end || read == 0 {
            break;
        }
    }
    line.truncate(length);
    Ok(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_change_what_they_speak_of() {
        let mut word = AgentWord::default();
        for (line, after) in [
            ("up", "up, ready, 100%"),
            ("75%", "up, ready, 75%"),
            ("drain", "up, drain, 75%"),
            ("down #disk full, 10%", "down, drain, 75%"),
            ("ready,up\t50%", "up, ready, 50%"),
            ("0%", "up, ready, 0%"),
            ("maint maxconn:30", "up, maint, 0%"),
            ("Fail 200%", "down, maint, 100%"),
            ("stopped", "down, maint, 100%"),
            ("up ready", "up, ready, 100%"),
        ] {
            word = word.after(line).expect(line);
            assert_eq!(word.to_string(), after, "{line}");
        }
        for line in ["", " ,", "hello", "75", "-1%", "%", "up hello", "#up"] {
            assert_eq!(word.after(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_no_panic(line in ".*") {
            let word = AgentWord::default().after(&line);
            prop_assert!(word.is_none_or(|word| word.weight_percent <= 100));
        }
    }
}
