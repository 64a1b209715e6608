//! Rules as kernel 6.1 lists them, recorded from firewall4's chain with offload on.

#![cfg(target_endian = "little")]

use super::kernel::{Place, Rewrite};
use super::rule::MARKER;
use super::sets::Set;
use super::wire::{self, message};
use super::*;
use crate::sys::netlink::{Builder, Messages};

/// `meta l4proto { tcp, udp } flow add @ft`, then a rule with a comment and two without.
const OPEN: &str = "\
     b0000000060a020807000000990000000100000308000100667734000c000200666f7277617264000c0003000000\
     0000000000057c00040024000100090001006d657461000000001400020008000200000000100800010000000001\
     300001000b0001006c6f6f6b75700000200002000b0001005f5f7365743000000800020000000001080005000000\
     00002400010011000100666c6f775f6f66666c6f6164000000000c0002000700010066740000c0000000060a0208\
     07000000990000000100000308000100667734000c000200666f7277617264000c00030000000000000000070c00\
     060000000000000000055c0004002000010007000100637400001400020008000100000000010800020000000000\
     380001000b0001006c6f6f6b75700000280002000b0001005f5f6d61703000000800020000000001080003000000\
     0000080005000000000023000700001d216677343a2048616e646c6520666f7277617264656420666c6f77730000\
     2c010000060a020807000000990000000100000308000100667734000c000200666f7277617264000c0003000000\
     0000000000080c0006000000000000000007ec00040024000100090001006d657461000000001400020008000200\
     0000000608000100000000013800010008000100636d70002c000200080001000000000108000200000000001800\
     0300140001006c616e3100000000000000000000000024000100090001006d657461000000001400020008000200\
     0000000708000100000000013800010008000100636d70002c000200080001000000000108000200000000001800\
     03001400010077616e00000000000000000000000000300001000e000100696d6d6564696174650000001c000200\
     0800010000000000100002000c00020008000100000000010c010000060a02080700000099000000010000030800\
     0100667734000c000200666f7277617264000c00030000000000000000090c0006000000000000000008cc000400\
     20000100070001006374000014000200080001000000000108000200000000024c0001000c000100626974776973\
     65003c00020008000100000000010800020000000001080003000000000408000600000000000c00040008000100\
     200000000c00050008000100000000002c00010008000100636d7000200002000800010000000001080002000000\
     00010c0003000800010000000000300001000e000100696d6d6564696174650000001c0002000800010000000000\
     100002000c0002000800010000000001";
/// The same after a guard for the bits 0x70000000.
const GUARDED: &str = "\
     60010000060a020807000000990000000100000508000100667734000c000200666f7277617264000c0003000000\
     00000000000d1401040024000100090001006d657461000000001400020008000200000000100800010000000001\
     300001000b0001006c6f6f6b75700000200002000b0001005f5f7365743000000800020000000001080005000000\
     000020000100070001006374000014000200080001000000000108000200000000034c0001000c00010062697477\
     697365003c00020008000100000000010800020000000001080003000000000408000600000000000c0004000800\
     0100000000700c00050008000100000000002c00010008000100636d700020000200080001000000000108000200\
     000000000c00030008000100000000102400010011000100666c6f775f6f66666c6f6164000000000c0002000700\
     0100667400001800070000126775617264656420627920736c7569636500";
const FLOWTABLE: &str = "\
     6c000000160a02080700000099000000010000030800010066773400070002006674000008000400000000010c00\
     0500000000000000000308000700000000002c000300080001000000000008000200000000001800030008000100\
     77616e00090001006c616e3100000000";
/// The sets of the first two rules.
const SETS: &str = "\
     74000000090a020007000000990000000100000308000100667734000b0002005f5f7365743000000c0010000000\
     0000000000040800030000000003080004000000000c08000500000000011a000d00000401000000030e00040900\
     0000010600041000000000000c000900080001000000000288000000090a02000700000099000000010000030800\
     0100667734000b0002005f5f6d61703000000c0010000000000000000006080003000000000b080004000000001a\
     080005000000000408000600ffffff00080007000000001020000d00000401000000010400000000040800040100\
     000001000604000000000c0009000800010000000002";
const ELEMENTS: &str = "\
     4c0000000c0a020007000000990000000100000308000100667734000b0002005f5f736574300000240003001000\
     01000c0001000500010006000000100001000c0001000500010011000000";

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn rules(hex: &str) -> Vec<Rule> {
    let bytes = bytes(hex);
    let rules: Vec<_> = Messages::new(&bytes).filter_map(|message| Rule::read(&message)).collect();
    assert_eq!(rules.len(), Messages::new(&bytes).count());
    rules
}

fn marks() -> MarkMask {
    MarkMask::try_from(0x7000_0000).unwrap()
}

fn state() -> State {
    let bytes = bytes(FLOWTABLE);
    let flowtables = Messages::new(&bytes).filter_map(|message| Flowtable::read(&message));
    State { generation: 3, flowtables: flowtables.collect(), rules: rules(OPEN) }
}

/// The rule read back from what would be sent for it.
fn sent(rule: &Rule) -> Rule {
    let mut builder = Builder::default();
    builder.message(message::NEW_RULE, 0, 1, &wire::header(wire::INET));
    builder.attr(wire::RULE_HANDLE, &rule.handle.to_be_bytes());
    rule.write(&mut builder, |_| None);
    let message = Messages::new(builder.bytes()).next().unwrap();
    Rule::read(&message).unwrap()
}

#[test]
fn firewall4s_rule_is_found_and_its_neighbours_are_not() {
    let rules = rules(OPEN);
    let handing: Vec<_> = rules.iter().map(Rule::handing).collect();
    assert_eq!(handing, [Handing::Open, Handing::None, Handing::None, Handing::None]);
    assert_eq!(rules[0].flowtable().as_deref(), Some("ft"));
    assert_eq!(rules[0].sets(), ["__set0".into()]);
    assert_eq!(rules[1].comment().as_deref(), Some("!fw4: Handle forwarded flows"));
    assert_eq!((rules[1].flowtable(), rules[1].obstacle()), (None, None));
}

#[test]
fn a_guard_is_what_the_kernel_shows_of_it_and_comes_off_without_a_trace() {
    let open = rules(OPEN).remove(0);
    let shown = rules(GUARDED).remove(0);
    let wanted = Handing::Guarded { mask: 0x7000_0000, value: 0x1000_0000 };
    assert_eq!(shown.handing(), wanted);
    assert_eq!(shown.comment().as_deref(), Some(MARKER));
    let guarded = open.guarded(marks());
    assert_eq!(sent(&guarded).handing(), wanted);
    // The kernel's number is its own; everything else is the rule that was there before.
    assert_eq!(guarded.plain(), open);
    assert_eq!(open.with_expressions_of(&shown.plain()), open);
    assert_eq!(shown.plain().comment(), None);
    assert_eq!(guarded.guarded(marks()), guarded, "never twice");
}

#[test]
fn a_comment_of_the_user_survives() {
    // The second rule's comment on a rule that hands flows over.
    let (open, commented) = (rules(OPEN).remove(0), rules(OPEN).remove(1));
    let rule = commented.with_expressions_of(&open);
    let guarded = rule.guarded(marks());
    assert_eq!(
        guarded.comment().as_deref(),
        Some("!fw4: Handle forwarded flows; guarded by sluice")
    );
    assert_eq!(guarded.plain(), rule);
    // One that leaves no room for the marker gives way to it.
    let mut builder = Builder::default();
    builder.message(message::NEW_RULE, 0, 1, &wire::header(wire::INET));
    builder.attr(wire::RULE_HANDLE, &9_u64.to_be_bytes());
    builder.attr(wire::RULE_USERDATA, &[&[0, 121][..], &[b'x'; 120], &[0]].concat());
    let long = Rule::read(&Messages::new(builder.bytes()).next().unwrap()).unwrap();
    assert_eq!(long.comment().unwrap().len(), 120);
    let guarded = long.with_expressions_of(&open).guarded(marks());
    assert_eq!(guarded.comment().as_deref(), Some(MARKER));
}

#[test]
fn a_guard_of_somebody_else_is_not_taken_off() {
    let guarded = rules(GUARDED).remove(0);
    let theirs = rules(OPEN).remove(1).with_expressions_of(&guarded);
    assert_eq!(theirs.handing(), Handing::Open);
    assert_eq!(theirs.plain(), theirs);
    // Ours is put behind theirs, and only ours comes off.
    assert_eq!(theirs.guarded(marks()).plain(), theirs);
}

#[test]
fn a_guard_for_other_bits_is_replaced_and_one_for_these_stays() {
    let other = MarkMask::try_from(0x0700_0000).unwrap();
    let stale = rules(OPEN).remove(0).guarded(other);
    let (new, obstacles) = decide(std::slice::from_ref(&stale), Wish::Guard(marks()));
    assert_eq!((new.len(), obstacles.len()), (1, 0));
    assert_eq!(new[0].1, rules(OPEN).remove(0).guarded(marks()));
    assert_eq!(decide(&rules(GUARDED), Wish::Guard(marks())), (vec![], vec![]));
    assert_eq!(decide(&rules(OPEN), Wish::Plain), (vec![], vec![]));
    let (restored, _) = decide(&rules(GUARDED), Wish::Plain);
    assert_eq!((restored.len(), restored[0].1.handing()), (1, Handing::Open));
}

#[test]
fn a_rule_with_a_verdict_behind_flow_add_is_left_alone_and_named() {
    let all = rules(OPEN);
    // `flow add @ft ... accept`.
    let rule = all[0].followed_by(&all[2]);
    let (new, obstacles) = decide(std::slice::from_ref(&rule), Wish::Guard(marks()));
    assert_eq!(new, []);
    assert_eq!(obstacles, ["the rule with handle 5 goes on behind `flow add` (meta)"]);
    // What only counts or tells may stand there.
    let mut builder = Builder::default();
    builder.message(message::NEW_RULE, 0, 1, &wire::header(wire::INET));
    builder.attr(wire::RULE_HANDLE, &9_u64.to_be_bytes());
    builder.nested(wire::RULE_EXPRESSIONS, |builder| {
        for name in ["counter", "last", "log"] {
            builder.nested(wire::LIST_ELEMENT, |builder| {
                wire::text(builder, wire::EXPR_NAME, name);
            });
        }
    });
    let harmless = Rule::read(&Messages::new(builder.bytes()).next().unwrap()).unwrap();
    let rule = all[0].followed_by(&harmless);
    let (new, obstacles) = decide(std::slice::from_ref(&rule), Wish::Guard(marks()));
    assert_eq!((new.len(), obstacles.len()), (1, 0));
}

#[test]
fn the_transaction_empties_the_flowtable_and_puts_the_rule_where_it_was() {
    let state = state();
    let (new, _) = decide(&state.rules, Wish::Guard(marks()));
    let emptied = state.used_by(&new);
    assert_eq!((emptied.len(), emptied[0].devices.len()), (1, 2));
    let (sets_bytes, elements) = (bytes(SETS), bytes(ELEMENTS));
    let mut set = Set::read(&Messages::new(&sets_bytes).next().unwrap()).unwrap();
    Messages::new(&elements).for_each(|message| set.take_elements(&message));
    assert!(set.is_anonymous());
    let rewrite =
        Rewrite { rules: &state.rules, new: &new, emptied: &emptied, sets: &[set], generation: 3 };
    let mut builder = Builder::default();
    rewrite.write(&mut builder, Place { table: "fw4", chain: "forward" }, 9);
    let messages: Vec<_> = Messages::new(builder.bytes()).collect();
    let kinds: Vec<_> = messages.iter().map(|message| message.kind).collect();
    assert_eq!(
        kinds,
        [
            16,
            message::DELETE_RULE,
            message::DELETE_FLOWTABLE,
            message::NEW_FLOWTABLE,
            message::NEW_SET,
            message::NEW_ELEMENTS,
            message::NEW_RULE,
            17
        ]
    );
    let attr = |at: usize, kind| {
        let mut attrs = messages[at].attrs(wire::FAMILY_HEADER);
        attrs.find(|attr| attr.kind == kind).map(|attr| attr.value.to_vec())
    };
    assert_eq!(attr(0, wire::GEN_ID), Some(3_u32.to_be_bytes().to_vec()));
    assert_eq!(attr(1, wire::RULE_HANDLE), Some(5_u64.to_be_bytes().to_vec()));
    assert_eq!(Flowtable::read(&messages[3]).unwrap(), emptied[0]);
    assert_eq!(Set::read(&messages[4]).unwrap().name.as_ref(), "__set%d");
    // Before the rule that stood behind it.
    assert_eq!(attr(6, wire::RULE_POSITION), Some(7_u64.to_be_bytes().to_vec()));
    let only = Rewrite { rules: &state.rules[..1], ..rewrite };
    let mut builder = Builder::default();
    only.write(&mut builder, Place { table: "fw4", chain: "forward" }, 9);
    let rule = Messages::new(builder.bytes()).nth(6).unwrap();
    assert_ne!(rule.flags & wire::APPEND, 0, "alone in its chain it goes to the end");
}

#[test]
fn what_is_seen_is_told_apart() {
    let mut state = state();
    let seen = state.seen(Wish::Guard(marks()), &[]);
    assert_eq!((seen.mode, seen.guarded, seen.open), (Mode::Software, 0, 1));
    assert_eq!(seen.devices, ["lan1".into(), "wan".into()]);
    state.rules = rules(GUARDED);
    state.flowtables[0].is_hardware = true;
    let seen = state.seen(Wish::Guard(marks()), &[]);
    assert_eq!((seen.mode, seen.guarded, seen.open), (Mode::Hardware, 1, 0));
    state.flowtables[0].table = "mine".into();
    let seen = state.seen(Wish::Guard(marks()), &[]);
    assert_eq!((seen.mode, &*seen.foreign), (Mode::None, &["ft of table mine".to_owned()][..]));
    let nothing = State::default().seen(Wish::Guard(marks()), &[]);
    assert_eq!(nothing, Seen::default());
}

#[test]
fn damaged_answers_are_read_without_a_panic() {
    let whole = bytes(GUARDED);
    let mut random = 7_u32;
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..3 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (random >> 8) as usize % bytes.len();
            bytes[at] = (random >> 24) as u8;
        }
        for message in Messages::new(&bytes) {
            if let Some(rule) = Rule::read(&message) {
                let _any = (rule.guarded(marks()).plain(), rule.obstacle(), rule.comment());
            }
            let _any = (Flowtable::read(&message), Set::read(&message));
        }
    }
}

/// The look at a namespace with nothing in it, with this machine's kernel.
#[test]
fn nothing_is_found_where_nothing_is() {
    use nix::sched::{CloneFlags, unshare};
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root for a network namespace");
        return;
    }
    let looked = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut offload = Offload::default();
        let changed = offload.look(Wish::Guard(marks())).map_err(|error| error.to_string());
        (changed, offload)
    });
    let (changed, offload) = looked.join().unwrap();
    assert_eq!((changed, offload.seen(), offload.failure()), (Ok(0), &Seen::default(), None));
}
