//! Any file of rules: every rule is in force, unsupported or wrong, and memory is what was added up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::signature::{Builder, Loader, Variables};

fuzz_target!(|data: &[u8]| {
    let mut variables = Variables::default();
    variables.set("HOME_NET", "[192.168.0.0/16,fd00::/8]");
    variables.set("EXTERNAL_NET", "!$HOME_NET");
    variables.set("HTTP_PORTS", "[80,8080:8090]");
    let mut loader = Loader::new(variables);
    let mut builder = Builder::default();
    let mut rules = 0;
    loader.text("fuzz.rules", data, |parsed| {
        assert!(
            parsed.rule.sid > 0
                && parsed.groups.iter().map(|g| g.contents.len()).sum::<usize>() <= 64
        );
        rules += 1;
        builder.push(parsed);
    });
    let report = loader.report();
    assert_eq!(report.rules, rules);
    assert!(report.mistakes.len() <= 100 && report.mistakes.len() as u32 <= report.wrong);
    assert!(report.keywords.values().sum::<u32>() >= report.unsupported);
    let lines = data.split(|byte| *byte == b'\n').count() as u32;
    assert!(report.rules + report.unsupported + report.wrong <= lines);
    for mistake in &report.mistakes {
        assert!(!mistake.to_string().contains(char::is_control));
    }
    let signatures = builder.finish(loader.files(), loader.lists_memory(), usize::MAX).unwrap();
    assert_eq!(signatures.len(), rules as usize);
});
