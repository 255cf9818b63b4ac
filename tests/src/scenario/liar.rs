//! A DNS server that says what it is told to say, true or not.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_lab::Lab;

use super::await_until;

/// How long a socket is listened to before it is seen whether all is over.
const TURN: Duration = Duration::from_millis(20);
/// What fits into an answer by UDP.
const LONGEST: usize = 1232;
/// Where the question's name stands in every answer.
const ASKED: [u8; 2] = [0xc0, 12];

/// What is said to every question for addresses.
#[derive(Clone, Debug)]
pub enum Word {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// Such a code, and nothing else: 2 is SERVFAIL, 3 is NXDOMAIN.
    Code(u8),
    /// Nothing.
    Silence,
    /// No DNS at all.
    Garbage,
    /// This address, in answers to questions that nobody asked; then the others, as it should be.
    Forged(Ipv4Addr, Vec<Ipv4Addr>),
    /// This address, as that of another name.
    OtherName(Ipv4Addr),
    /// That the name is another one's, which is the first one's.
    Loop,
}

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct Liar {
    state: Arc<State>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    word: Mutex<Word>,
    asked: AtomicUsize,
    asked_by_tcp: AtomicUsize,
    is_over: AtomicBool,
}

impl Liar {
    /// Starts it in a namespace.
    ///
    /// # Errors
    /// When the address is taken.
    pub fn start(lab: &Lab, namespace: &str, address: SocketAddr, word: Word) -> Result<Self> {
        let (datagrams, streams) = lab.within(namespace, || {
            anyhow::Ok((UdpSocket::bind(address)?, TcpListener::bind(address)?))
        })??;
        datagrams.set_read_timeout(Some(TURN))?;
        streams.set_nonblocking(true)?;
        let state = Arc::new(State {
            word: Mutex::new(word),
            asked: AtomicUsize::new(0),
            asked_by_tcp: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let (one, other) = (Arc::clone(&state), Arc::clone(&state));
        let threads = vec![
            thread::spawn(move || one.answer_datagrams(&datagrams)),
            thread::spawn(move || other.answer_streams(&streams)),
        ];
        Ok(Self { state, threads })
    }

    /// Says something else from now on.
    pub fn say(&self, word: Word) {
        *self
            .state
            .word
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = word;
    }

    /// Waits until it has been asked so often from now on.
    ///
    /// # Errors
    /// When that takes too long.
    pub fn await_asked(&self, times: usize) -> Result<()> {
        let before = self.asked();
        await_until(Duration::from_secs(20), "it is asked", || {
            let more = self.asked() - before;
            ensure!(more >= times, "{more} of {times} questions");
            Ok(())
        })
    }

    fn asked(&self) -> usize {
        self.state.asked.load(Ordering::Relaxed)
    }

    /// How often it was asked by TCP.
    #[must_use]
    pub fn asked_by_tcp(&self) -> usize {
        self.state.asked_by_tcp.load(Ordering::Relaxed)
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that panicked has said why.
            let _ = thread.join();
        }
    }
}

impl State {
    fn word(&self) -> Word {
        self.word
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn answer_datagrams(&self, socket: &UdpSocket) {
        let mut question = [0; 1500];
        while !self.is_over() {
            let Ok((length, client)) = socket.recv_from(&mut question) else {
                continue;
            };
            for mut answer in answers(&question[..length], &self.word()) {
                if answer.len() > LONGEST {
                    let asked = end_of_question(&answer).unwrap_or(12);
                    answer.truncate(asked);
                    answer[2] |= 2;
                    answer[6..8].fill(0);
                }
                // Whoever asked may be gone.
                let _ = socket.send_to(&answer, client);
            }
            self.asked.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answer_streams(&self, listener: &TcpListener) {
        while !self.is_over() {
            match listener.accept() {
                Ok((stream, _)) => {
                    // As above.
                    let _ = self.answer_stream(stream);
                    self.asked_by_tcp.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => thread::sleep(TURN),
            }
        }
    }

    fn answer_stream(&self, mut stream: TcpStream) -> Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut question = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut question)?;
        for answer in answers(&question, &self.word()) {
            let length = u16::try_from(answer.len()).context("too many records")?;
            stream.write_all(&length.to_be_bytes())?;
            stream.write_all(&answer)?;
        }
        Ok(())
    }
}

/// Where the question ends.
fn end_of_question(message: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 5),
            length => at += 1 + usize::from(length),
        }
    }
}

fn answers(question: &[u8], word: &Word) -> Vec<Vec<u8>> {
    let Some(end) = end_of_question(question).filter(|end| *end <= question.len()) else {
        return Vec::new();
    };
    let asked = &question[..end];
    let other = encoded("evil.lab");
    match word {
        Word::Addresses(addresses, ttl) => vec![of_addresses(asked, addresses, *ttl)],
        Word::Code(code) => vec![answer(asked, *code, &[])],
        Word::Silence => Vec::new(),
        Word::Garbage => vec![vec![0xff; 40], vec![asked[0], asked[1], 0x81]],
        Word::Forged(forged, addresses) => {
            let mut wrong_id = of_addresses(asked, &[*forged], 60);
            wrong_id[0] ^= 1;
            let mut about_another = asked[..12].to_vec();
            about_another.extend([&other[..], &[0, 1, 0, 1]].concat());
            vec![
                wrong_id,
                of_addresses(&about_another, &[*forged], 60),
                of_addresses(asked, addresses, 0),
            ]
        }
        Word::OtherName(address) => {
            vec![answer(
                asked,
                0,
                &[record(&other, 1, 60, &address.octets())],
            )]
        }
        Word::Loop => vec![answer(
            asked,
            0,
            &[record(&ASKED, 5, 60, &other), record(&other, 5, 60, &ASKED)],
        )],
    }
}

fn of_addresses(asked: &[u8], addresses: &[Ipv4Addr], ttl: u32) -> Vec<u8> {
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .map(|address| record(&ASKED, 1, ttl, &address.octets()))
        .collect();
    answer(asked, 0, &records)
}

/// To what was asked, with a code and records.
fn answer(asked: &[u8], code: u8, records: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
    let [high, low] = count.to_be_bytes();
    let mut all = asked[..2].to_vec();
    all.extend([0x81, 0x80 | code, 0, 1, high, low, 0, 0, 0, 0]);
    all.extend(&asked[12..]);
    all.extend(records.concat());
    all
}

fn record(name: &[u8], kind: u8, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut all = name.to_vec();
    all.extend([0, kind, 0, 1]);
    all.extend(ttl.to_be_bytes());
    all.extend([0, u8::try_from(data.len()).unwrap_or(u8::MAX)]);
    all.extend(data);
    all
}

fn encoded(name: &str) -> Vec<u8> {
    let label = |label: &str| {
        let length = u8::try_from(label.len()).unwrap_or(u8::MAX);
        [&[length], label.as_bytes()].concat()
    };
    let mut all: Vec<u8> = name.split('.').flat_map(label).collect();
    all.push(0);
    all
}
