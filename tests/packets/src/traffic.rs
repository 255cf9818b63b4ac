//! Endless traffic: conversations that make sense, and frames that are broken.

use std::{collections::VecDeque, net::SocketAddr};

use fastrand::Rng;

use crate::{
    Mac, Piece, cut, fragment, mutate::mutate, network_offset, payload_length, talk::Talk,
};

/// A service as its clients see it.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The service.
    pub address: SocketAddr,
    /// TCP, or else UDP.
    pub is_tcp: bool,
    /// Whether backends' answers come back by the balancer.
    pub is_answered: bool,
    /// What payloads may begin with that means something to the balancer.
    pub starts: &'static [&'static [u8]],
}

/// A frame and where it came from.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The frame.
    pub frame: Vec<u8>,
    /// Its conversation, for [`Traffic::sent`].
    pub talk: usize,
    /// Whether it is as a host would send it.
    pub is_whole: bool,
}

/// A source of frames that depends on nothing but its seed and on what it is told to learn.
#[derive(Debug)]
pub struct Traffic {
    rng: Rng,
    targets: Vec<Target>,
    talks: Vec<Talk>,
    last: Vec<u8>,
    balancer: Mac,
    /// Pieces that are under way.
    pieces: VecDeque<Sent>,
    /// How many of a hundred frames are broken.
    pub broken_percent: u8,
}

const TALKS: usize = 400;

impl Traffic {
    /// Traffic to those services of the balancer with that MAC.
    #[must_use]
    pub fn new(seed: u64, targets: Vec<Target>, balancer: Mac) -> Self {
        let mut rng = Rng::with_seed(seed);
        let talks = (0..TALKS).map(|_| Talk::new(&mut rng, &targets)).collect();
        Self {
            rng,
            targets,
            talks,
            last: Vec::new(),
            balancer,
            pieces: VecDeque::new(),
            broken_percent: 35,
        }
    }

    /// The next frame.
    pub fn send(&mut self) -> Sent {
        if !self.pieces.is_empty() && self.rng.bool() {
            // Mostly in their order.
            let index = match self.rng.u8(..6) {
                0 => self.rng.usize(..self.pieces.len()),
                _ => 0,
            };
            if let Some(sent) = self.pieces.remove(index) {
                return sent;
            }
        }
        let rng = &mut self.rng;
        let talk = rng.usize(..TALKS);
        // Some talks are over, and others begin.
        if rng.u8(..24) == 0 {
            let mut new = Talk::new(rng, &self.targets);
            if rng.bool() {
                new.share_client(&self.talks[rng.usize(..TALKS)]);
            }
            self.talks[talk] = new;
        }
        if rng.u8(..14) == 0 {
            let length = [40, 300, 1400][rng.usize(..3)];
            let large = self.talks[talk].large(rng, self.balancer, length);
            self.break_up(talk, &large);
            return self.send();
        }
        let mut frame = self.talks[talk].frame(rng, self.balancer);
        if rng.u8(..10) == 0 {
            frame.resize(frame.len().max(60), 0);
        }
        let is_whole = rng.u8(..100) >= self.broken_percent;
        let whole = frame.clone();
        if !is_whole {
            mutate(rng, &mut frame, &self.last);
        }
        self.last = whole;
        Sent {
            frame,
            talk,
            is_whole,
        }
    }

    /// Sends a packet in pieces: not always all of them, and some that overlap or tell other ports.
    fn break_up(&mut self, talk: usize, frame: &[u8]) {
        let rng = &mut self.rng;
        let Some(length) = payload_length(frame) else {
            return;
        };
        let identification = rng.u32(..);
        let size = [8, 24, 64, 512, 1024, 1024][rng.usize(..6)];
        let mut pieces = cut(length, size);
        pieces.truncate(5);
        match rng.u8(..8) {
            0 => drop(pieces.pop()),
            1 => {
                let overlapping = pieces.first().map(|first| Piece {
                    to: (first.to + 8).min(length),
                    ..*first
                });
                pieces.extend(overlapping);
            }
            2 => pieces.extend(pieces.first().copied()),
            _ => {}
        }
        let tells_others = rng.u8(..6) == 0;
        for (number, piece) in pieces.into_iter().enumerate() {
            let Some(mut piece_frame) = fragment(frame, identification, piece) else {
                return;
            };
            if tells_others && number > 0 && piece.from == 0 {
                let header = network_offset(&piece_frame);
                let ports = if piece_frame[header] == 0x45 { 20 } else { 48 };
                if let Some(byte) = piece_frame.get_mut(header + ports + 1) {
                    *byte ^= 1;
                }
            }
            self.pieces.push_back(Sent {
                frame: piece_frame,
                talk,
                is_whole: false,
            });
        }
    }

    /// A conversation learns its backend from a packet that was steered to it.
    pub fn sent(&mut self, talk: usize, left: &[u8]) {
        self.talks[talk].sent(left);
    }

    /// A conversation learns the SYN cookie that its client got.
    pub fn got_cookie(&mut self, talk: usize, left: &[u8]) {
        self.talks[talk].got_cookie(left);
    }

    /// A conversation learns what its client got.
    pub fn got(&mut self, talk: usize, left: &[u8]) {
        self.talks[talk].got(left);
    }
}
