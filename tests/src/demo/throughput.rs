//! The same router four ways: plain, with an XDP program that does nothing, with Sluice, and with
//! every packet through a queue.

use std::time::Duration;

use crate::agent::Agent;
use crate::error::Result;
use crate::router::Router;
use crate::throughput::{self, Dress, Duel, Stand, Way};

/// Length of one turn.
const TURN: Duration = Duration::from_millis(500);

/// Megabits per second of the plain router and, right before or after it, of another way to forward.
pub(super) type Pairs = Vec<[f64; 2]>;

/// What was measured of each way to forward: download, then upload.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Plain, with an empty XDP program on every port: what virtual cables pay for XDP as such.
    pub(super) empty_xdp: [Pairs; 2],
    /// With Sluice in force.
    pub(super) sluice: [Pairs; 2],
    /// Every packet handed to a program that accepts it.
    pub(super) queued: [Pairs; 2],
}

/// Measures in turns. `plain` is a second world of the same build without Sluice.
pub(super) fn measure(
    guarded: (&Router, &Agent),
    plain: &Router,
    rounds: u32,
    mut progress: impl FnMut(Way, u32),
) -> Result<Rates> {
    let stands = [Stand::new(plain, None, false), Stand::new(guarded.0, Some(guarded.1), false)];
    let mut rates = Rates::default();
    for way in Way::ALL {
        let duel = |subject| Duel::new("", subject, (0, Dress::Plain));
        let mut duels = [
            duel((0, Dress::EmptyXdp("xdp"))),
            duel((1, Dress::Plain)),
            duel((0, Dress::Everything)),
        ];
        throughput::measure(&stands, &mut duels, way, (rounds, TURN), |round| {
            progress(way, round);
        })?;
        let ways = [&mut rates.empty_xdp, &mut rates.sluice, &mut rates.queued];
        for (pairs, duel) in ways.into_iter().zip(duels) {
            if let Some(pairs) = pairs.get_mut(way as usize) {
                *pairs = duel.pairs.iter().map(|pair| pair.map(|slice| slice.mbit())).collect();
            }
        }
    }
    Ok(rates)
}
