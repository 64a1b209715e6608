//! `GUARANTEES.md` only names tests that exist.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Names like `router_life::test` or `sluice::cli::show::test` in a text.
fn names(text: &str) -> Vec<Vec<&str>> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|name| name.contains("::")).map(|name| name.split("::").collect()).collect()
}

/// Files in which a test of this module may be.
fn files(module: &[&str]) -> Vec<PathBuf> {
    let (first, rest) = module.split_first().unwrap();
    let top = match *first {
        "abi" => "ebpf/abi/src",
        "datapath" => "ebpf/datapath/src",
        "sluice" => "firmware-agent/src",
        "xtask" => "cross/xtask/src",
        "users" => return vec![root().join("firmware-agent/tests/users.rs")],
        test => {
            let test = root().join("tests/tests").join(test);
            let part = rest.first().map_or("main", |part| part);
            return vec![test.with_extension("rs"), test.join(part).with_extension("rs")];
        }
    };
    let module = rest.iter().fold(root().join(top), |path, part| path.join(part));
    vec![module.with_extension("rs"), module.join("mod.rs"), module.join("tests.rs")]
}

#[test]
fn every_test_that_is_named_exists() {
    let document = fs::read_to_string(root().join("tests/GUARANTEES.md")).unwrap();
    let names = names(&document);
    assert!(names.len() > 100, "only {} names were found", names.len());
    let mut missing = Vec::new();
    for name in names {
        let (test, module) = name.split_last().unwrap();
        let exists = files(module).iter().any(|file| {
            fs::read_to_string(file).is_ok_and(|source| {
                // Unit tests are indented, and other attributes may stand between.
                let lines: Vec<&str> = source.lines().map(str::trim).collect();
                let at = lines.iter().position(|line| line.starts_with(&format!("fn {test}(")));
                at.is_some_and(|at| lines[at.saturating_sub(4)..at].contains(&"#[test]"))
            })
        });
        if !exists {
            missing.push(name.join("::"));
        }
    }
    assert!(missing.is_empty(), "no such tests:\n{}", missing.join("\n"));
}

#[test]
fn every_test_on_a_router_is_named() {
    let document = fs::read_to_string(root().join("tests/GUARANTEES.md")).unwrap();
    let names: Vec<String> = names(&document).iter().map(|name| name.join("::")).collect();
    for program in [
        "router_inspect",
        "router_shield",
        "router_fragment",
        "router_life",
        "router_restart",
        "router_rungs",
        "router_guard",
        "router_links",
    ] {
        let source = fs::read_to_string(root().join(format!("tests/tests/{program}.rs"))).unwrap();
        let lines: Vec<&str> = source.lines().collect();
        for window in lines.windows(2).filter(|window| window[0] == "#[test]") {
            let test = window[1].trim_start_matches("fn ").split('(').next().unwrap();
            let name = format!("{program}::{test}");
            assert!(names.contains(&name), "{name} proves nothing that is claimed");
        }
    }
}

/// What the program may say, by the texts in its source.
fn source() -> String {
    let mut folders = vec![root().join("firmware-agent/src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("tests.rs") {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    // A long text goes on in the next line of the source.
    text.split("\\\n").map(str::trim_start).collect()
}

/// What the page for users quotes is what the program says.
#[test]
fn every_line_of_the_page_about_troubles_is_in_the_source() {
    let page = fs::read_to_string(root().join("config/troubleshooting.md")).unwrap();
    let source = source();
    let mut quotes = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let columns: Vec<&str> = line.split(" | ").collect();
        assert_eq!(columns.len(), 4, "{line}");
        let said = columns[1].split('`').skip(1).step_by(2);
        for quote in said.filter(|quote| quote.contains(' ') && !quote.starts_with("sluice ")) {
            for part in quote.split('…').map(str::trim).filter(|part| part.len() > 3) {
                assert!(source.contains(part), "nothing says `{part}`");
                quotes += 1;
            }
        }
    }
    assert!(quotes > 30, "only {quotes} quotes were found");
}
