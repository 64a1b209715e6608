//! What packets leave to be told: alerts, and flows that are blocked.
//!
//! More than a few in a second, or more than somebody takes, are left out and counted.

use std::collections::VecDeque;

use sluice_abi::flow::FlowKey;
use smol::channel::Sender;

use super::pace::{MOST, Pace};
use super::signatures::Kept;
use crate::inspect::engine::Step;

/// Something that happened.
#[derive(Debug)]
pub(super) enum Notice {
    /// A rule of a ruleset matched.
    Alert(Kept),
    /// The flow with this key is blocked.
    Blocked(FlowKey),
}

/// Notices on their way.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// Wakes up who tells them.
    waker: Option<Sender<()>>,
    queue: VecDeque<Notice>,
    pace: Pace,
    left_out: u64,
}

impl Notices {
    /// From now on `waker` is told of each.
    pub(super) fn wake(&mut self, waker: Sender<()>) {
        self.waker = Some(waker);
    }

    /// The alerts of a packet.
    pub(super) fn alerts(&mut self, now_ns: u64, step: &Step) {
        let Some(flow) = step.flow else { return };
        for alert in step.alerts.iter().filter(|alert| alert.is_told) {
            self.push(now_ns, || Notice::Alert(Kept { at_ns: now_ns, flow, alert: alert.clone() }));
        }
    }

    /// A flow that was blocked just now.
    pub(super) fn blocked(&mut self, now_ns: u64, key: FlowKey) {
        self.push(now_ns, || Notice::Blocked(key));
    }

    /// The next one.
    pub(super) fn pop(&mut self) -> Option<Notice> {
        self.queue.pop_front()
    }

    /// Notices that were left out because there were too many.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    fn push(&mut self, now_ns: u64, notice: impl FnOnce() -> Notice) {
        // Who should tell them may be slow.
        if self.queue.len() as u64 > MOST || !self.pace.take(now_ns) {
            self.left_out += 1;
            return;
        }
        self.queue.push_back(notice());
        if let Some(waker) = &self.waker {
            let _ = waker.try_send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_abi::flow::Addr;
    use sluice_datapath::parse::TCP;

    use super::*;

    #[test]
    fn notices_are_kept_within_their_rate() {
        let [one, two] = [1, 2].map(|last| Addr::from_v4_octets([192, 0, 2, last]));
        let key = FlowKey::new(one, two, 1, 2, TCP).0;
        let mut notices = Notices::default();
        let (waker, woken) = smol::channel::bounded(1);
        notices.wake(waker);
        let mut told = 0;
        for now_ns in (0..2_000_000_000).step_by(1_000_000) {
            notices.blocked(10_000_000_000 + now_ns, key);
            told += usize::from(notices.pop().is_some());
        }
        assert_eq!(woken.len(), 1);
        assert_eq!(told, 20 + 40, "a burst, and then the rate");
        assert_eq!(notices.left_out(), 2000 - 60);

        for now_ns in (100..200).map(|s| s * 1_000_000_000) {
            notices.blocked(now_ns, key);
        }
        assert_eq!(std::iter::from_fn(|| notices.pop()).count(), 21, "nobody takes them");
    }
}
