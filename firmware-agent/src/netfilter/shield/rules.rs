//! What the kernel tells of the rules: which they are, and what they dropped.

use std::hash::{DefaultHasher, Hasher as _};

use sluice_abi::reason::DropReason;

use super::super::offload::wire::{self, message};
use super::TABLE;
use super::text::REASONS;
use crate::sys::netlink::Message;

/// Packets that were dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Dropped {
    /// Number of the interface.
    pub slot: u32,
    /// Why.
    pub reason: DropReason,
    /// How many.
    pub packets: u64,
}

/// The rules of the table as the kernel tells them.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// What they ask, and where each stands: another number for others.
    pub(super) number: DefaultHasher,
    pub(super) dropped: Vec<Dropped>,
}

impl Rules {
    /// Takes a message; `None` when it is about none of them.
    pub(super) fn read(&mut self, message: &Message<'_>) -> Option<()> {
        let find = |kind| message.attrs(wire::FAMILY_HEADER).find(|attr| attr.kind == kind);
        let is_ours = message.kind == message::NEW_RULE
            && find(wire::RULE_TABLE).is_some_and(|table| *table.text() == *TABLE);
        if !is_ours {
            return None;
        }
        let chain = find(wire::RULE_CHAIN)?.text();
        self.number.write(find(wire::RULE_HANDLE)?.value);
        let expressions = find(wire::RULE_EXPRESSIONS)?;
        let mut packets = None;
        for expression in expressions.nested() {
            let find = |kind| expression.nested().find(|attr| attr.kind == kind);
            if find(wire::EXPR_NAME).is_some_and(|name| &*name.text() == "counter") {
                let data = find(wire::EXPR_DATA)?;
                let count = data.nested().find(|attr| attr.kind == wire::COUNTER_PACKETS)?;
                packets = Some(u64::from_be_bytes(count.value.try_into().ok()?));
            }
        }
        let Some(packets) = packets else {
            // With a counter the figures change.
            self.number.write(expressions.value);
            return Some(());
        };
        let (reason, slot) = chain.rsplit_once('_')?;
        let reason = REASONS.into_iter().find(|one| one.name() == reason)?;
        self.dropped.push(Dropped { slot: slot.parse().ok()?, reason, packets });
        Some(())
    }
}
