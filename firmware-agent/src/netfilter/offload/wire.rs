//! Numbers of the kernel's `nf_tables` interface, and the bytes of its messages that are used here.

use crate::sys::netlink::{Attrs, Builder, flag};

/// The nfnetlink subsystem of `nf_tables`.
const SUBSYSTEM: u16 = 10;
/// Bytes of `struct nfgenmsg`.
pub(in crate::netfilter) const FAMILY_HEADER: usize = 4;
/// `NFPROTO_INET`: the family of firewall4's table.
pub(in crate::netfilter) const INET: u8 = 1;

/// Message types, complete with the subsystem.
pub(in crate::netfilter) mod message {
    use super::SUBSYSTEM;

    pub(in crate::netfilter) const NEW_RULE: u16 = (SUBSYSTEM << 8) + 6;
    pub(in crate::netfilter) const GET_RULE: u16 = (SUBSYSTEM << 8) + 7;
    pub(in crate::netfilter) const DELETE_RULE: u16 = (SUBSYSTEM << 8) + 8;
    pub(in crate::netfilter) const NEW_SET: u16 = (SUBSYSTEM << 8) + 9;
    pub(in crate::netfilter) const GET_SET: u16 = (SUBSYSTEM << 8) + 10;
    pub(in crate::netfilter) const NEW_ELEMENTS: u16 = (SUBSYSTEM << 8) + 12;
    pub(in crate::netfilter) const GET_ELEMENTS: u16 = (SUBSYSTEM << 8) + 13;
    pub(in crate::netfilter) const DELETE_ELEMENTS: u16 = (SUBSYSTEM << 8) + 14;
    pub(in crate::netfilter) const NEW_GENERATION: u16 = (SUBSYSTEM << 8) + 15;
    pub(in crate::netfilter) const GET_GENERATION: u16 = (SUBSYSTEM << 8) + 16;
    pub(in crate::netfilter) const NEW_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 22;
    pub(in crate::netfilter) const GET_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 23;
    pub(in crate::netfilter) const DELETE_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 24;
    /// `NFNL_MSG_BATCH_BEGIN` and `END`; the subsystem stands in the family header.
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    pub(super) const BATCH: (u16, u16) = (BATCH_BEGIN, BATCH_END);
}

/// Flags of requests.
pub(in crate::netfilter) const DUMP: u16 = flag::REQUEST | 0x300;
pub(in crate::netfilter) const CREATE: u16 = 0x400;
pub(in crate::netfilter) const APPEND: u16 = 0x800;

pub(in crate::netfilter) const LIST_ELEMENT: u16 = 1;

pub(in crate::netfilter) const GEN_ID: u16 = 1;

pub(in crate::netfilter) const RULE_TABLE: u16 = 1;
pub(in crate::netfilter) const RULE_CHAIN: u16 = 2;
pub(in crate::netfilter) const RULE_HANDLE: u16 = 3;
pub(in crate::netfilter) const RULE_EXPRESSIONS: u16 = 4;
pub(in crate::netfilter) const RULE_POSITION: u16 = 6;
pub(in crate::netfilter) const RULE_USERDATA: u16 = 7;

pub(in crate::netfilter) const EXPR_NAME: u16 = 1;
pub(in crate::netfilter) const EXPR_DATA: u16 = 2;
pub(in crate::netfilter) const DATA_VALUE: u16 = 1;

pub(in crate::netfilter) const FLOWTABLE_TABLE: u16 = 1;
pub(in crate::netfilter) const FLOWTABLE_NAME: u16 = 2;
pub(in crate::netfilter) const FLOWTABLE_HOOK: u16 = 3;
pub(in crate::netfilter) const FLOWTABLE_FLAGS: u16 = 7;
/// `NFT_FLOWTABLE_HW_OFFLOAD`.
pub(in crate::netfilter) const FLOWTABLE_HARDWARE: u32 = 1;
pub(in crate::netfilter) const HOOK_DEVICES: u16 = 3;
pub(in crate::netfilter) const DEVICE_NAME: u16 = 1;

pub(in crate::netfilter) const SET_TABLE: u16 = 1;
pub(in crate::netfilter) const SET_NAME: u16 = 2;
pub(in crate::netfilter) const SET_FLAGS: u16 = 3;
pub(in crate::netfilter) const SET_ID: u16 = 10;
/// Type, lengths, description and the notes of `nft`: what a set is copied by.
pub(in crate::netfilter) const SET_SHAPE: [u16; 8] = [SET_FLAGS, 4, 5, 6, 7, 8, 9, 13];
/// Name of a new set that belongs to one rule: the kernel puts a free number in.
pub(in crate::netfilter) const NEW_NAME: &str = "__set%d";
/// `NFT_SET_ANONYMOUS`.
pub(in crate::netfilter) const SET_ANONYMOUS: u32 = 1;

pub(in crate::netfilter) const ELEMENTS_TABLE: u16 = 1;
pub(in crate::netfilter) const ELEMENTS_SET: u16 = 2;
pub(in crate::netfilter) const ELEMENTS_LIST: u16 = 3;
pub(in crate::netfilter) const ELEMENTS_SET_ID: u16 = 4;

pub(in crate::netfilter) const ELEMENT_KEY: u16 = 1;
pub(in crate::netfilter) const ELEMENT_FLAGS: u16 = 3;
/// Milliseconds, 64 bits; what is left of them is the other.
pub(in crate::netfilter) const ELEMENT_TIMEOUT: u16 = 4;
pub(in crate::netfilter) const ELEMENT_EXPIRATION: u16 = 5;
/// `NFT_SET_ELEM_INTERVAL_END`.
pub(in crate::netfilter) const ELEMENT_END: u32 = 1;

pub(in crate::netfilter) const COUNTER_PACKETS: u16 = 2;

/// Adds text with its zero byte.
pub(in crate::netfilter) fn text(builder: &mut Builder, kind: u16, text: &str) {
    builder.attr(kind, &[text.as_bytes(), &[0]].concat());
}

/// The family header of a request about tables of `family`.
pub(in crate::netfilter) const fn header(family: u8) -> [u8; FAMILY_HEADER] {
    [family, 0, 0, 0]
}

/// Opens or closes a transaction. One that names a generation is refused when somebody else has
/// changed anything since.
pub(in crate::netfilter) fn batch(builder: &mut Builder, sequence: u32, generation: Option<u32>) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let (begin, end) = message::BATCH;
    let kind = if generation.is_some() { begin } else { end };
    builder.message(kind, flag::REQUEST, sequence, &[0, 0, high, low]);
    if let Some(generation) = generation {
        builder.attr(GEN_ID, &generation.to_be_bytes());
    }
}

/// Opens a transaction that no change of somebody else refuses.
pub(in crate::netfilter) fn begin(builder: &mut Builder, sequence: u32) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    builder.message(message::BATCH.0, flag::REQUEST, sequence, &[0, 0, high, low]);
}

/// Copies those of the attributes in `data` whose kind is `wanted`. The bit that says that a value is
/// a list is not copied: `nf_tables` does not ask for it.
pub(in crate::netfilter) fn copy(builder: &mut Builder, data: &[u8], wanted: impl Fn(u16) -> bool) {
    for attr in Attrs::new(data).filter(|attr| wanted(attr.kind)) {
        builder.attr(attr.kind, attr.value);
    }
}
