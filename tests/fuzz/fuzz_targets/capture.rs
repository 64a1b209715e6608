//! Any file as a capture: an error or an end, and every line is one JSON object.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::replay::{Options, run_reader};

fuzz_target!(|data: &[u8]| {
    let mut out = Vec::new();
    let result = run_reader(data, &mut out, Options::default());
    let lines = out.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert!(out.iter().all(|byte| (b' '..0x7f).contains(byte) || *byte == b'\n'));
    if let Ok(summary) = result {
        assert_eq!(summary.tls_lines
                + summary.quic_lines
                + summary.http_lines
                + summary.answer_lines
                + summary.verdict_lines
                + summary.flow_lines, lines);
    }
});
