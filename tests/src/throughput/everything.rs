//! Every packet through a queue: the other way to look at flows, for comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crate::error::{Attempt as _, Error, Result};
use crate::netns::Netns;
use crate::wait;

/// Queue number of the comparison; each namespace has its own numbers.
const QUEUE: u16 = 7777;

/// A program that is asked about every packet and accepts it, as a sensor does that never decides.
#[derive(Debug)]
pub(super) struct Everything<'a> {
    netns: &'a Netns,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<std::io::Result<u64>>>,
}

impl<'a> Everything<'a> {
    /// Opens the queue, then sends everything there.
    pub(super) fn start(netns: &'a Netns) -> Result<Self> {
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
    pub(super) fn stop(mut self) -> Result<()> {
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
