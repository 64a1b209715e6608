//! Reads the rules that matter from the kernel, and puts others in their place by one transaction.

use std::io;

use nix::sys::socket::SockProtocol;

use super::rule::{Handing, Rule};
use super::sets::Set;
use super::wire::{self, message};
use crate::sys::netlink::{Builder, Message, RequestError, Socket, flag};

/// The kernel sends lists in datagrams of up to 32 KiB.
const DATAGRAM_MAX: usize = 40 * 1024;
const UNSPEC: u8 = 0;

/// A flowtable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flowtable {
    /// Family of its table, as the kernel numbers it.
    pub(super) family: u8,
    /// Name of its table.
    pub table: Box<str>,
    /// Its own name.
    pub name: Box<str>,
    /// Devices whose packets it looks at.
    pub devices: Vec<Box<str>>,
    /// Whether it gives flows to the hardware.
    pub is_hardware: bool,
    flags: u32,
    hook: Vec<u8>,
}

impl Flowtable {
    /// Reads a flowtable from the kernel's answer.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != message::NEW_FLOWTABLE {
            return None;
        }
        let (mut table, mut name, mut flags) = (None, None, 0);
        let (mut hook, mut devices) = (Vec::new(), Vec::new());
        for attr in message.attrs(wire::FAMILY_HEADER) {
            match attr.kind {
                wire::FLOWTABLE_TABLE => table = Some(attr.text()),
                wire::FLOWTABLE_NAME => name = Some(attr.text()),
                wire::FLOWTABLE_FLAGS => flags = attr.be32()?,
                wire::FLOWTABLE_HOOK => {
                    hook = attr.value.to_vec();
                    let lists = attr.nested().filter(|attr| attr.kind == wire::HOOK_DEVICES);
                    let names = lists.flat_map(|list| list.nested());
                    let names = names.filter(|attr| attr.kind == wire::DEVICE_NAME);
                    devices.extend(names.map(|attr| attr.text()));
                }
                _ => {}
            }
        }
        Some(Self {
            family: *message.body.first()?,
            table: table?,
            name: name?,
            devices,
            is_hardware: flags & wire::FLOWTABLE_HARDWARE != 0,
            flags,
            hook,
        })
    }
}

/// A chain that rules are changed in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) table: &'static str,
    pub(super) chain: &'static str,
}

/// Rules in the place of others.
#[derive(Debug)]
pub(super) struct Rewrite<'a> {
    /// All rules of the chain, in order.
    pub(super) rules: &'a [Rule],
    /// The new ones, by the handle of the rule whose place they take, in order.
    pub(super) new: &'a [(u64, Rule)],
    /// Flowtables that are made anew, so that no flow is in them any more.
    pub(super) emptied: &'a [Flowtable],
    /// Sets of the new rules.
    pub(super) sets: &'a [Set],
    /// Generation that all this was read at.
    pub(super) generation: u32,
}

impl Rewrite<'_> {
    /// The transaction.
    pub(super) fn write(&self, builder: &mut Builder, place: Place, sequence: u32) {
        let header = wire::header(wire::INET);
        let create = |builder: &mut Builder, kind| {
            builder.message(kind, flag::REQUEST | wire::CREATE, sequence, &header);
        };
        wire::batch(builder, sequence, Some(self.generation));
        for (handle, _) in self.new {
            builder.message(message::DELETE_RULE, flag::REQUEST, sequence, &header);
            wire::text(builder, wire::RULE_TABLE, place.table);
            wire::text(builder, wire::RULE_CHAIN, place.chain);
            builder.attr(wire::RULE_HANDLE, &handle.to_be_bytes());
        }
        for flowtable in self.emptied {
            builder.message(message::DELETE_FLOWTABLE, flag::REQUEST, sequence, &header);
            wire::text(builder, wire::FLOWTABLE_TABLE, place.table);
            wire::text(builder, wire::FLOWTABLE_NAME, &flowtable.name);
        }
        for flowtable in self.emptied {
            create(builder, message::NEW_FLOWTABLE);
            wire::text(builder, wire::FLOWTABLE_TABLE, place.table);
            wire::text(builder, wire::FLOWTABLE_NAME, &flowtable.name);
            builder.attr(wire::FLOWTABLE_HOOK, &flowtable.hook);
            if flowtable.flags != 0 {
                builder.attr(wire::FLOWTABLE_FLAGS, &flowtable.flags.to_be_bytes());
            }
        }
        // A set belongs to one rule: each lookup gets a copy of its own.
        let mut id = 0;
        for (handle, rule) in self.new {
            let names = rule.sets();
            let mut copies = Vec::new();
            for set in self.sets.iter().filter(|set| names.contains(&set.name)) {
                id += 1;
                set.copy(builder, place.table, id, create);
                copies.push((&*set.name, id));
            }
            let before = self.follower(*handle);
            let append = if before.is_none() { wire::APPEND } else { 0 };
            // One acknowledgement, for the last; what is refused is told in any case.
            let is_last = self.new.last().is_some_and(|(last, _)| last == handle);
            let ack = if is_last { flag::ACK } else { 0 };
            let flags = flag::REQUEST | wire::CREATE | append | ack;
            builder.message(message::NEW_RULE, flags, sequence, &header);
            wire::text(builder, wire::RULE_TABLE, place.table);
            wire::text(builder, wire::RULE_CHAIN, place.chain);
            if let Some(before) = before {
                builder.attr(wire::RULE_POSITION, &before.to_be_bytes());
            }
            rule.write(builder, |name| {
                copies.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
            });
        }
        wire::batch(builder, sequence, None);
    }

    /// The first rule behind `handle` that stays; rules put before it keep their order.
    fn follower(&self, handle: u64) -> Option<u64> {
        let behind = self.rules.iter().skip_while(|rule| rule.handle != handle).skip(1);
        let mut handles = behind.map(|rule| rule.handle);
        handles.find(|handle| !self.new.iter().any(|(replaced, _)| replaced == handle))
    }
}

/// A way to ask about the rules of the calling thread's namespace.
#[derive(Debug)]
pub(in crate::netfilter) struct Kernel {
    socket: Socket,
    builder: Builder,
    buffer: Box<[u8]>,
    sequence: u32,
}

impl Kernel {
    pub(in crate::netfilter) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: Socket::open(SockProtocol::NetlinkNetFilter, 0)?,
            builder: Builder::with_capacity(1024),
            buffer: vec![0; DATAGRAM_MAX].into(),
            sequence: 0,
        })
    }

    /// The number of the last transaction of anybody.
    pub(super) fn generation(&mut self) -> Result<u32, RequestError> {
        let mut generation = None;
        self.ask(
            message::GET_GENERATION,
            flag::REQUEST | flag::ACK,
            UNSPEC,
            |_| (),
            |answer| {
                if answer.kind == message::NEW_GENERATION {
                    let mut attrs = answer.attrs(wire::FAMILY_HEADER);
                    let attr = attrs.find(|attr| attr.kind == wire::GEN_ID);
                    generation = attr.and_then(|attr| attr.be32());
                }
            },
        )?;
        generation.ok_or(RequestError::Nonsense)
    }

    /// Every flowtable of every table.
    pub(super) fn flowtables(&mut self) -> Result<Vec<Flowtable>, RequestError> {
        let mut flowtables = Vec::new();
        self.ask(
            message::GET_FLOWTABLE,
            wire::DUMP,
            UNSPEC,
            |_| (),
            |answer| {
                flowtables.extend(Flowtable::read(&answer));
            },
        )?;
        Ok(flowtables)
    }

    /// The rules of a chain, in order; none when there is no such chain.
    pub(super) fn rules(&mut self, place: Place) -> Result<Vec<Rule>, RequestError> {
        let mut rules = Vec::new();
        let chain = |builder: &mut Builder| {
            wire::text(builder, wire::RULE_TABLE, place.table);
            wire::text(builder, wire::RULE_CHAIN, place.chain);
        };
        let asked = self.ask(message::GET_RULE, wire::DUMP, wire::INET, chain, |answer| {
            rules.extend(Rule::read(&answer));
        });
        match asked {
            Err(error) if error.errno() == Some(libc::ENOENT) => Ok(Vec::new()),
            asked => asked.map(|()| rules),
        }
    }

    /// The anonymous sets of a rule.
    pub(super) fn sets(&mut self, place: Place, rule: &Rule) -> Result<Vec<Set>, RequestError> {
        let mut sets = Vec::new();
        for name in rule.sets() {
            let mut found = None;
            let of_set = |builder: &mut Builder| {
                wire::text(builder, wire::SET_TABLE, place.table);
                wire::text(builder, wire::SET_NAME, &name);
            };
            self.ask(message::GET_SET, flag::REQUEST | flag::ACK, wire::INET, of_set, |answer| {
                found = found.take().or_else(|| Set::read(&answer));
            })?;
            let mut set = found.ok_or(RequestError::Nonsense)?;
            if !set.is_anonymous() {
                continue;
            }
            let of_set = |builder: &mut Builder| {
                wire::text(builder, wire::ELEMENTS_TABLE, place.table);
                wire::text(builder, wire::ELEMENTS_SET, &name);
            };
            self.ask(message::GET_ELEMENTS, wire::DUMP, wire::INET, of_set, |answer| {
                set.take_elements(&answer);
            })?;
            if set.is_too_large() {
                return Err(RequestError::Nonsense);
            }
            sets.push(set);
        }
        Ok(sets)
    }

    /// Puts rules in the place of others, all or none. Refused with `ERESTART` when anything has
    /// changed since the generation of the rewrite.
    pub(super) fn commit(
        &mut self,
        place: Place,
        rewrite: &Rewrite<'_>,
    ) -> Result<(), RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.builder.clear();
        rewrite.write(&mut self.builder, place, self.sequence);
        self.socket.request(self.builder.bytes(), self.sequence, &mut self.buffer, |_| ())
    }

    /// Runs a transaction of the messages that `write` adds; its last one asks for an
    /// acknowledgement.
    pub(in crate::netfilter) fn transact(
        &mut self,
        write: impl FnOnce(&mut Builder, u32),
    ) -> Result<(), RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.builder.clear();
        wire::begin(&mut self.builder, self.sequence);
        write(&mut self.builder, self.sequence);
        wire::batch(&mut self.builder, self.sequence, None);
        self.socket.request(self.builder.bytes(), self.sequence, &mut self.buffer, |_| ())
    }

    /// Asks, and gives each answer to `each`.
    pub(in crate::netfilter) fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attrs: impl FnOnce(&mut Builder),
        each: impl FnMut(Message<'_>),
    ) -> Result<(), RequestError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.builder.clear();
        self.builder.message(kind, flags, self.sequence, &wire::header(family));
        attrs(&mut self.builder);
        self.socket.request(self.builder.bytes(), self.sequence, &mut self.buffer, each)
    }
}

/// Whether a rule hands flows over, in whatever way.
pub(super) fn hands_over(rule: &Rule) -> bool {
    rule.handing() != Handing::None
}
