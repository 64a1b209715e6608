//! Anonymous sets, like the `{ tcp, udp }` of a rule. Such a set belongs to one rule and goes with
//! it, so a rule that takes another one's place needs a copy.

use super::wire;
use crate::sys::netlink::{Attrs, Builder, Message};

/// An attribute's length is a `u16`; no rule written by hand comes near.
const ELEMENTS_MAX: usize = 60_000;

/// A set as the kernel has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Set {
    pub(super) name: Box<str>,
    flags: u32,
    /// Attributes of the set, elements apart.
    shape: Vec<u8>,
    /// Elements, as a list of attributes.
    elements: Vec<u8>,
}

impl Set {
    /// Reads a set, without elements, from the kernel's answer.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != wire::message::NEW_SET {
            return None;
        }
        let shape = message.body.get(wire::FAMILY_HEADER..)?.to_vec();
        let find = |kind| Attrs::new(&shape).find(|attr| attr.kind == kind);
        let name = find(wire::SET_NAME)?.text();
        let flags = find(wire::SET_FLAGS).and_then(|attr| attr.be32()).unwrap_or(0);
        Some(Self { name, flags, shape, elements: Vec::new() })
    }

    /// Takes elements from the kernel's answer.
    pub(super) fn take_elements(&mut self, message: &Message<'_>) {
        if message.kind == wire::message::NEW_ELEMENTS {
            let lists = message.attrs(wire::FAMILY_HEADER);
            for list in lists.filter(|attr| attr.kind == wire::ELEMENTS_LIST) {
                self.elements.extend_from_slice(list.value);
            }
        }
    }

    /// Whether it belongs to one rule.
    pub(super) const fn is_anonymous(&self) -> bool {
        self.flags & wire::SET_ANONYMOUS != 0
    }

    /// Whether it is too large to be copied by one message.
    pub(super) const fn is_too_large(&self) -> bool {
        self.elements.len() > ELEMENTS_MAX
    }

    /// Writes a copy with the number `id` into a transaction. `begin` starts a message of a type.
    pub(super) fn copy(
        &self,
        builder: &mut Builder,
        table: &str,
        id: u32,
        begin: impl Fn(&mut Builder, u16),
    ) {
        begin(builder, wire::message::NEW_SET);
        wire::text(builder, wire::SET_TABLE, table);
        wire::text(builder, wire::SET_NAME, wire::NEW_NAME);
        builder.attr(wire::SET_ID, &id.to_be_bytes());
        wire::copy(builder, &self.shape, |kind| wire::SET_SHAPE.contains(&kind));
        begin(builder, wire::message::NEW_ELEMENTS);
        wire::text(builder, wire::ELEMENTS_TABLE, table);
        wire::text(builder, wire::ELEMENTS_SET, wire::NEW_NAME);
        builder.attr(wire::ELEMENTS_SET_ID, &id.to_be_bytes());
        builder
            .nested(wire::ELEMENTS_LIST, |builder| wire::copy(builder, &self.elements, |_| true));
    }
}
