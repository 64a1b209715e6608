//! Bulk throughput through routers that differ in one thing.
//!
//! A shared machine changes its speed from one moment to the next, so nothing is compared with another
//! moment: two ways to forward have their turns of a fraction of a second, one right after the other, in
//! the other order each time, and what counts is the share in each pair. A connection keeps its luck for
//! its life, with buffers and their places in memory, so each turn has a new one.

mod everything;
pub mod paired;
mod stand;

use std::time::Duration;

use self::everything::Everything;
use self::paired::Share;
use crate::agent::{Agent, Setup};
use crate::error::Result;
use crate::probe::ForeignXdp;

pub use self::stand::{Slice, Stand};

/// Which way data goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// From the server to the client.
    Download,
    /// From the client to the server.
    Upload,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Download, Self::Upload];
}

/// What is put on a router for its turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dress {
    /// Nothing.
    Plain,
    /// An XDP program on every port that does nothing, attached as `ip link` calls it: what virtual
    /// cables pay for XDP as such.
    EmptyXdp(&'static str),
    /// Every packet is handed to a program that accepts it.
    Everything,
    /// Sluice, with XDP as its option says: started for the turn, and measured once the connection, which
    /// it finds in the middle, is trusted.
    Sluice(&'static str),
    /// The same, but nothing listens to DNS.
    Nameless(&'static str),
}

/// A way to forward: a router by its place in a list, and what it wears.
pub type Lane = (usize, Dress);

/// Two lanes that are compared, and what was seen of them.
#[derive(Clone, Debug)]
pub struct Duel {
    /// What the subject is called.
    pub name: &'static str,
    /// What it is compared with.
    pub reference: Lane,
    /// What is looked at.
    pub subject: Lane,
    /// Slices of the reference and of the subject.
    pub pairs: Vec<[Slice; 2]>,
}

impl Duel {
    /// Nothing has been seen yet.
    #[must_use]
    pub const fn new(name: &'static str, subject: Lane, reference: Lane) -> Self {
        Self { name, reference, subject, pairs: Vec::new() }
    }

    fn values(&self, value: impl Fn(&Slice) -> f64) -> [Vec<f64>; 2] {
        [0, 1]
            .map(|place| self.pairs.iter().filter_map(|pair| pair.get(place)).map(&value).collect())
    }

    /// Megabits a second, of the reference and of the subject.
    #[must_use]
    pub fn rates(&self) -> [Vec<f64>; 2] {
        self.values(Slice::mbit)
    }

    /// The subject's rate as a share of the reference's.
    #[must_use]
    pub fn rate(&self) -> Share {
        let [reference, subject] = self.rates();
        Share::of(&subject, &reference)
    }

    /// The subject's work for a byte as a multiple of the reference's.
    #[must_use]
    pub fn work(&self) -> Share {
        let [reference, subject] = self.values(Slice::work);
        Share::of(&subject, &reference)
    }
}

/// Runs every duel `rounds` times, after one that is not kept.
pub fn measure(
    stands: &[Stand<'_>],
    duels: &mut [Duel],
    way: Way,
    (rounds, slice): (u32, Duration),
    mut progress: impl FnMut(u32),
) -> Result<()> {
    for round in 0..=rounds {
        progress(round);
        for duel in duels.iter_mut() {
            let mut pair = [duel.reference, duel.subject];
            let is_reversed = round % 2 == 1;
            if is_reversed {
                pair.reverse();
            }
            let [first, second] = pair;
            let mut slices = [turn(stands, first, way, slice)?, turn(stands, second, way, slice)?];
            if is_reversed {
                slices.reverse();
            }
            if round > 0 {
                duel.pairs.push(slices);
            }
        }
    }
    Ok(())
}

fn turn(stands: &[Stand<'_>], (place, dress): Lane, way: Way, time: Duration) -> Result<Slice> {
    let Some(stand) = stands.get(place) else { return Ok(Slice::default()) };
    let netns = &stand.world.netns;
    match dress {
        Dress::Plain => stand.turn(way, time, None),
        Dress::EmptyXdp(mode) => {
            let ports = stand.world.ports();
            let programs = ports.iter().map(|port| ForeignXdp::attach_as(mode, netns, port));
            let _programs = programs.collect::<Result<Vec<_>>>()?;
            stand.turn(way, time, None)
        }
        Dress::Everything => {
            let queue = Everything::start(netns)?;
            let slice = stand.turn(way, time, None)?;
            queue.stop()?;
            Ok(slice)
        }
        Dress::Sluice(xdp) | Dress::Nameless(xdp) => {
            let mut setup = Setup::default().xdp(xdp);
            if matches!(dress, Dress::Nameless(_)) {
                setup = setup.main("dns_names", 0);
            }
            let agent = Agent::start(stand.world, setup)?;
            if stand.is_offloaded() {
                agent.wait_for_guard()?;
            }
            stand.turn(way, time, Some(&agent))
        }
    }
}
