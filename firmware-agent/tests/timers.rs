//! Timers of the executor, on every target that the agent is built for.
#![expect(clippy::unwrap_used, reason = "a test")]

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Without `--cfg fix_y2038` a 32-bit musl target hands its timers to the kernel in the wrong layout. Then they are
/// never armed, which is no error but a hang, or refused, which the reactor answers by trying again and again.
#[test]
fn a_timer_fires_in_time_and_nothing_spins_meanwhile() {
    const WAIT: Duration = Duration::from_millis(500);
    let (sender, fired) = channel();
    std::thread::spawn(move || {
        // The first starts the reactor, and has an emulator translate the code.
        smol::block_on(smol::Timer::after(WAIT / 10));
        let (started, before) = (Instant::now(), switches());
        smol::block_on(smol::Timer::after(WAIT));
        // Before the thread ends and takes its count with it.
        sender.send((started.elapsed(), switches() - before)).unwrap();
    });
    let (elapsed, switches) =
        fired.recv_timeout(Duration::from_secs(20)).expect("the timer never fired");
    assert!(elapsed >= WAIT, "{elapsed:?}");
    assert!(switches < 100, "{switches} context switches");
}

/// How often the threads of this process have gone to sleep.
fn switches() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    tasks
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("status")).ok())
        .map(|status| {
            let line =
                status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            line.unwrap().trim().parse::<u64>().unwrap()
        })
        .sum()
}
