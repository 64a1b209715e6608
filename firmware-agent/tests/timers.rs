//! Timers of the executor, on every target that the agent is built for.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Without `--cfg fix_y2038` a 32-bit musl target arms its timers with zeros, which means never: not an error, a hang.
#[test]
fn a_timer_fires_and_not_too_early() {
    let (sender, fired) = channel();
    std::thread::spawn(move || {
        let started = Instant::now();
        smol::block_on(smol::Timer::after(Duration::from_millis(20)));
        sender.send(started.elapsed())
    });
    let elapsed = fired.recv_timeout(Duration::from_secs(20)).expect("the timer never fired");
    assert!(elapsed >= Duration::from_millis(20), "{elapsed:?}");
}
