//! Questions that wait for their answers.

use std::hash::{BuildHasher as _, RandomState};

use sluice_abi::flow::Addr;

use super::shares::Shares;
use crate::config::Mac;

/// Questions that wait at most; of one device a quarter.
pub const PENDING_MAX: usize = 1024;
/// How long a question waits.
pub const PENDING_MS: u64 = 10_000;

/// What an answer has to repeat: both ends, the number and what is asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Who asks.
    pub client: (Addr, u16),
    /// Who is asked.
    pub server: (Addr, u16),
    /// Number of the transport protocol.
    pub transport: u8,
    /// Number of the message.
    pub id: u16,
    /// The name, in lower case.
    pub name: &'a str,
    /// The type of record.
    pub kind: u16,
}

/// A question that was answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answered {
    /// Hardware address of who asked, where the link has such.
    pub mac: Option<Mac>,
    /// Milliseconds from the question to the answer.
    pub ms: u64,
}

/// Questions by who asked.
#[derive(Debug)]
pub struct Questions {
    /// Keyed by what cannot be foreseen: nobody makes two questions look alike.
    hasher: RandomState,
    pending: Shares<Addr, u64, Pending>,
}

#[derive(Debug)]
struct Pending {
    mac: Option<Mac>,
    at_ms: u64,
}

impl Default for Questions {
    fn default() -> Self {
        Self { hasher: RandomState::new(), pending: Shares::new(PENDING_MAX) }
    }
}

impl Questions {
    /// Questions that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a question. One that is asked again waits anew.
    pub fn ask(&mut self, now_ms: u64, asked: &Asked<'_>, mac: Option<Mac>) {
        let key = self.key(asked);
        let pending = self.pending.touch(asked.client.0, key, || Pending { mac, at_ms: now_ms });
        if let Some(pending) = pending {
            *pending = Pending { mac, at_ms: now_ms };
        }
    }

    /// The question that this answers. There is one answer to a question: the first.
    pub fn answer(&mut self, now_ms: u64, asked: &Asked<'_>) -> Option<Answered> {
        let key = self.key(asked);
        let Pending { mac, at_ms } = self.pending.remove(asked.client.0, key)?;
        let ms = now_ms.saturating_sub(at_ms);
        (ms <= PENDING_MS).then_some(Answered { mac, ms })
    }

    /// Forgets questions that waited too long. Gives how many.
    pub fn expire(&mut self, now_ms: u64) -> u64 {
        let mut count = 0;
        let is_over = |pending: &Pending| now_ms.saturating_sub(pending.at_ms) > PENDING_MS;
        while self.pending.pop_oldest(is_over) {
            count += 1;
        }
        count
    }

    fn key(&self, asked: &Asked<'_>) -> u64 {
        let Asked { client, server, transport, id, name, kind } = asked;
        self.hasher.hash_one((client, server, transport, id, name, kind))
    }
}
