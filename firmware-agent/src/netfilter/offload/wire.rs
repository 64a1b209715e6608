//! Numbers of the kernel's `nf_tables` interface, and the bytes of its messages that are used here.

use crate::sys::netlink::{Attrs, Builder, flag};

/// The nfnetlink subsystem of `nf_tables`.
const SUBSYSTEM: u16 = 10;
/// Bytes of `struct nfgenmsg`.
pub(super) const FAMILY_HEADER: usize = 4;
/// `NFPROTO_INET`: the family of firewall4's table.
pub(super) const INET: u8 = 1;

/// Message types, complete with the subsystem.
pub(super) mod message {
    use super::SUBSYSTEM;

    pub(in super::super) const NEW_RULE: u16 = (SUBSYSTEM << 8) + 6;
    pub(in super::super) const GET_RULE: u16 = (SUBSYSTEM << 8) + 7;
    pub(in super::super) const DELETE_RULE: u16 = (SUBSYSTEM << 8) + 8;
    pub(in super::super) const NEW_SET: u16 = (SUBSYSTEM << 8) + 9;
    pub(in super::super) const GET_SET: u16 = (SUBSYSTEM << 8) + 10;
    pub(in super::super) const NEW_ELEMENTS: u16 = (SUBSYSTEM << 8) + 12;
    pub(in super::super) const GET_ELEMENTS: u16 = (SUBSYSTEM << 8) + 13;
    pub(in super::super) const NEW_GENERATION: u16 = (SUBSYSTEM << 8) + 15;
    pub(in super::super) const GET_GENERATION: u16 = (SUBSYSTEM << 8) + 16;
    pub(in super::super) const NEW_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 22;
    pub(in super::super) const GET_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 23;
    pub(in super::super) const DELETE_FLOWTABLE: u16 = (SUBSYSTEM << 8) + 24;
    /// `NFNL_MSG_BATCH_BEGIN` and `END`; the subsystem stands in the family header.
    const BATCH_BEGIN: u16 = 16;
    const BATCH_END: u16 = 17;
    pub(super) const BATCH: (u16, u16) = (BATCH_BEGIN, BATCH_END);
}

/// Flags of requests.
pub(super) const DUMP: u16 = flag::REQUEST | 0x300;
pub(super) const CREATE: u16 = 0x400;
pub(super) const APPEND: u16 = 0x800;

pub(super) const LIST_ELEMENT: u16 = 1;

pub(super) const GEN_ID: u16 = 1;

pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_POSITION: u16 = 6;
pub(super) const RULE_USERDATA: u16 = 7;

pub(super) const EXPR_NAME: u16 = 1;
pub(super) const EXPR_DATA: u16 = 2;
pub(super) const DATA_VALUE: u16 = 1;

pub(super) const FLOWTABLE_TABLE: u16 = 1;
pub(super) const FLOWTABLE_NAME: u16 = 2;
pub(super) const FLOWTABLE_HOOK: u16 = 3;
pub(super) const FLOWTABLE_FLAGS: u16 = 7;
/// `NFT_FLOWTABLE_HW_OFFLOAD`.
pub(super) const FLOWTABLE_HARDWARE: u32 = 1;
pub(super) const HOOK_DEVICES: u16 = 3;
pub(super) const DEVICE_NAME: u16 = 1;

pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_ID: u16 = 10;
/// Type, lengths, description and the notes of `nft`: what a set is copied by.
pub(super) const SET_SHAPE: [u16; 8] = [SET_FLAGS, 4, 5, 6, 7, 8, 9, 13];
/// Name of a new set that belongs to one rule: the kernel puts a free number in.
pub(super) const NEW_NAME: &str = "__set%d";
/// `NFT_SET_ANONYMOUS`.
pub(super) const SET_ANONYMOUS: u32 = 1;

pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS_LIST: u16 = 3;
pub(super) const ELEMENTS_SET_ID: u16 = 4;

/// Adds text with its zero byte.
pub(super) fn text(builder: &mut Builder, kind: u16, text: &str) {
    builder.attr(kind, &[text.as_bytes(), &[0]].concat());
}

/// The family header of a request about tables of `family`.
pub(super) const fn header(family: u8) -> [u8; FAMILY_HEADER] {
    [family, 0, 0, 0]
}

/// Opens or closes a transaction. One that names a generation is refused when somebody else has
/// changed anything since.
pub(super) fn batch(builder: &mut Builder, sequence: u32, generation: Option<u32>) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let (begin, end) = message::BATCH;
    let kind = if generation.is_some() { begin } else { end };
    builder.message(kind, flag::REQUEST, sequence, &[0, 0, high, low]);
    if let Some(generation) = generation {
        builder.attr(GEN_ID, &generation.to_be_bytes());
    }
}

/// Copies those of the attributes in `data` whose kind is `wanted`. The bit that says that a value is
/// a list is not copied: `nf_tables` does not ask for it.
pub(super) fn copy(builder: &mut Builder, data: &[u8], wanted: impl Fn(u16) -> bool) {
    for attr in Attrs::new(data).filter(|attr| wanted(attr.kind)) {
        builder.attr(attr.kind, attr.value);
    }
}
