//! Any packets: memory stays bounded, and what was answered stays answered until a SYN.
#![no_main]

use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use sluice::config::RuleAction;
use sluice::inspect::engine::{Engine, Limits, Outcome};
use sluice::policy::of_domains;

fuzz_target!(|data: &[u8]| {
    let limits = Limits { flows_max: 64, bytes_max: 256 << 10, ..Limits::default() };
    let rules = [("a.test".to_owned(), RuleAction::Block, 1)];
    let mut engine = Engine::new(limits, of_domains(rules), [1, 2]);
    let mut answered = HashMap::new();
    let mut rest = data;
    let mut now_ms = 0;
    // A byte of time and two of length, then the packet; the lowest bit says that it was cut.
    while let Some((&[wait, high, low], tail)) = rest.split_first_chunk() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let (packet, tail) = tail.split_at(tail.len().min(len >> 1));
        rest = tail;
        now_ms += u64::from(wait);
        let step = engine.packet(now_ms, packet, packet.len() + (len & 1) * 100);
        assert!(engine.memory() <= engine.memory_max());
        let Some((key, _)) = step.flow else { continue };
        match step.outcome {
            Outcome::Decided(_) | Outcome::Undecided(_) => {
                if let Some(before) = answered.insert(key, step.outcome) {
                    assert!(!step.is_repeated || before == step.outcome);
                } else {
                    assert!(!step.is_repeated);
                }
            }
            Outcome::NotAFlow | Outcome::Inspect => assert!(step.news.is_none()),
        }
    }
    engine.expire(u64::MAX);
    assert_eq!(engine.flows(), 0);
});
