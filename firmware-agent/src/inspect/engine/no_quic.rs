//! A build without QUIC: no flow of UDP is searched, and its window says all.

#![expect(clippy::unused_self, reason = "the same calls as with QUIC")]

use sluice_abi::flow::{Direction, FlowKey};

use super::flow::Context;
use super::outcome::Cause;
use super::segment::Segment;
use super::side::Found;

/// No search.
#[derive(Debug, Default)]
pub(super) struct Quic;

impl Quic {
    pub(super) const fn memory(&self) -> usize {
        0
    }

    pub(super) const fn is_unfinished(&self) -> bool {
        false
    }

    pub(super) const fn len(&self) -> usize {
        0
    }

    pub(super) const fn pending(&self) -> Option<Cause> {
        None
    }

    pub(super) const fn answered(&mut self, _: Segment<'_>) -> bool {
        false
    }

    pub(super) const fn look(
        &mut self,
        _: FlowKey,
        _: Direction,
        _: Segment<'_>,
        _: &mut Context<'_>,
    ) -> (Found, bool) {
        (Found::Nothing, false)
    }
}
