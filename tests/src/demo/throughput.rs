//! The same router four ways: plain, with an XDP program that does nothing, with Sluice, and with
//! every packet through a queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::{Attempt as _, Error, Result};
use crate::netns::Netns;
use crate::probe::ForeignXdp;
use crate::router::Router;
use crate::service::Iperf;
use crate::wait;

/// Queue number of the comparison; each namespace has its own numbers.
const QUEUE: u16 = 7777;
/// Length of one run.
const SECONDS: u32 = 1;

/// Megabits per second, one value per round.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    /// Plain forwarding.
    pub(super) plain: Way,
    /// Plain, with an empty XDP program on every port: what virtual cables pay for XDP as such.
    pub(super) empty_xdp: Way,
    /// With Sluice in force.
    pub(super) sluice: Way,
    /// Every packet handed to a program that accepts it.
    pub(super) queued: Way,
}

/// Rates of one way to forward.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Way {
    /// From server to client.
    pub(super) download: Vec<f64>,
    /// From client to server.
    pub(super) upload: Vec<f64>,
}

impl Way {
    fn add(&mut self, world: &Router, iperf: &Iperf) -> Result<()> {
        self.download.push(iperf.measure(world, true, SECONDS)?);
        self.upload.push(iperf.measure(world, false, SECONDS)?);
        Ok(())
    }
}

/// The value in the middle.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

/// Measures in turns, so that a busy moment of the machine hits all four. `plain` is a second
/// world of the same build without Sluice.
pub(super) fn measure(
    guarded: (&Router, &Iperf),
    plain: (&Router, &Iperf),
    rounds: u32,
    mut progress: impl FnMut(u32),
) -> Result<Rates> {
    let mut rates = Rates::default();
    for round in 1..=rounds {
        progress(round);
        rates.plain.add(plain.0, plain.1)?;
        let ports = plain.0.ports();
        let programs = ports.iter().map(|port| ForeignXdp::attach(&plain.0.netns, port));
        let programs = programs.collect::<Result<Vec<_>>>()?;
        rates.empty_xdp.add(plain.0, plain.1)?;
        drop(programs);
        rates.sluice.add(guarded.0, guarded.1)?;
        let everything = Everything::start(&plain.0.netns)?;
        rates.queued.add(plain.0, plain.1)?;
        everything.stop()?;
    }
    Ok(rates)
}

/// A program that is asked about every packet and accepts it, as a sensor does that never decides.
struct Everything<'a> {
    netns: &'a Netns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<u64>>>,
}

impl<'a> Everything<'a> {
    fn start(netns: &'a Netns) -> Result<Self> {
        let what = || format!("listen to queue {QUEUE}");
        let opened = netns.enter(|| {
            let mut queue = nfq::Queue::open()?;
            queue.bind(QUEUE)?;
            queue.set_queue_max_len(QUEUE, 4096)?;
            queue.set_fail_open(QUEUE, true)?;
            queue.set_nonblocking(true);
            Ok::<_, std::io::Error>(queue)
        })?;
        let mut queue = opened.attempt(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut packets = 0;
            while !stopped.load(Ordering::Relaxed) {
                match queue.recv() {
                    Ok(mut packet) => {
                        packet.set_verdict(nfq::Verdict::Accept);
                        queue.verdict(packet)?;
                        packets += 1;
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        wait::pause(std::time::Duration::from_micros(50));
                    }
                    // The socket's buffer was full: packets were lost, the queue goes on.
                    Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(packets)
        });
        let this = Self { netns, stop, thread: Some(thread) };
        // nft where the kernel has the expression, else the twin that Sluice uses here too.
        let nft = netns.nft(&format!(
            "table inet everything {{
                chain forward {{
                    type filter hook forward priority -10
                    queue num {QUEUE} bypass
                }}
             }}\n"
        ));
        if nft.is_err() {
            let to = format!("FORWARD -j NFQUEUE --queue-num {QUEUE} --queue-bypass");
            netns.run(&format!("iptables-nft -t mangle -A {to}"))?;
        }
        Ok(this)
    }

    /// Ends it; an error when it saw nothing, because then nothing was compared.
    fn stop(mut self) -> Result<()> {
        self.end().and_then(|packets| {
            if packets > 0 {
                return Ok(());
            }
            Err(Error::Unusable("no packet reached the queue of the comparison".to_owned()))
        })
    }

    fn end(&mut self) -> Result<u64> {
        // Whichever of the two was made.
        let _absent = self.netns.run("nft delete table inet everything");
        let _absent = self.netns.run("iptables-nft -t mangle -F FORWARD");
        self.stop.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else { return Ok(0) };
        let packets = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        packets.attempt(|| format!("listen to queue {QUEUE}"))
    }
}

impl Drop for Everything<'_> {
    fn drop(&mut self) {
        // An earlier error is on its way to the user.
        let _reported = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the values are copied, not computed")]
    fn the_median_is_a_measured_value() {
        assert_eq!(median(&[9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(&[2.0]), 2.0);
        assert_eq!(median(&[]), 0.0);
    }
}
