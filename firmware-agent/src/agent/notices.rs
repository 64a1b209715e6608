//! What is told at once to those who want to hear it: alerts, and flows that are blocked.
//!
//! Where nobody listens nothing is kept. More than a few in a second are left out and counted.

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
    /// Wakes up who tells them; `None` while nobody wants to hear.
    waker: Option<Sender<()>>,
    queue: VecDeque<Notice>,
    pace: Pace,
    left_out: u64,
}

impl Notices {
    /// From now on notices are kept, and `waker` is told; or none any more.
    pub(super) fn want(&mut self, waker: Option<Sender<()>>) {
        self.queue.clear();
        self.waker = waker;
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
        let Some(waker) = &self.waker else { return };
        // Who should tell them may be slow.
        if self.queue.len() as u64 > MOST || !self.pace.take(now_ns) {
            self.left_out += 1;
            return;
        }
        self.queue.push_back(notice());
        let _ = waker.try_send(());
    }
}

#[cfg(test)]
mod tests {
    use sluice_abi::flow::Addr;
    use sluice_datapath::parse::TCP;

    use super::*;

    #[test]
    fn notices_are_kept_for_who_wants_them_and_within_their_rate() {
        let [one, two] = [1, 2].map(|last| Addr::from_v4_octets([192, 0, 2, last]));
        let key = FlowKey::new(one, two, 1, 2, TCP).0;
        let mut notices = Notices::default();
        notices.blocked(1, key);
        assert!(notices.pop().is_none() && notices.left_out() == 0, "nobody listens");

        let (waker, woken) = smol::channel::bounded(1);
        notices.want(Some(waker));
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
        notices.blocked(300_000_000_000, key);
        notices.want(None);
        assert!(notices.pop().is_none());
    }
}
