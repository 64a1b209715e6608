//! The lock around what tasks and workers share.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Something that one of them has at a time. Tasks hold it for a step, never while they wait.
#[derive(Debug)]
pub(super) struct Lock<T>(Mutex<T>);

impl<T> Lock<T> {
    pub(super) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    /// Waits for it.
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        // Who panics ends the agent; where tests go on, they see what it left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
