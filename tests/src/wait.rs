//! Waiting for what can only be asked, never for time to pass.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// Time between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Set by the demo's signal handler; every wait in the process then ends.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Ends every wait in this process. Safe to call from a signal handler.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// An error once [`interrupt`] was called.
pub fn interrupted() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Looks until `look` finds something or `limit` is over; `what` completes "waited in vain until".
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    loop {
        interrupted()?;
        if let Some(found) = look()? {
            return Ok(found);
        }
        let waited = start.elapsed();
        if waited > limit {
            return Err(Error::Timeout { what: what.to_owned(), waited });
        }
        pause(STEP);
    }
}

/// Like [`until`], for a claim.
pub fn until_true(what: &str, limit: Duration, mut claim: impl FnMut() -> bool) -> Result<()> {
    until(what, limit, || Ok(claim().then_some(())))
}

/// Whether `claim` comes true within `limit`; goes on after [`interrupt`], for taking down.
pub fn settles(limit: Duration, mut claim: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if claim() {
            return true;
        }
        if start.elapsed() > limit {
            return false;
        }
        pause(STEP);
    }
}

/// Lets `time` pass: for traffic at a rate, or for a timer under test; never to wait for a state.
#[expect(clippy::disallowed_methods, reason = "no executor runs in this process")]
pub fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_was_found_or_says_what_was_missing() {
        let mut looks = 0;
        let found = until("three looks were taken", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some(looks))
        });
        assert_eq!(found.unwrap(), 3);

        let error = until_true("pigs fly", Duration::from_millis(1), || false).unwrap_err();
        assert!(error.to_string().contains("until pigs fly"), "{error}");
    }
}
