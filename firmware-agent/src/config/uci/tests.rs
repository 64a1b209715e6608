use super::*;
use crate::config::remark::{Mistake, REMARKS_MAX, Warning};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/uci/");

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DATA}{name}")).unwrap()
}

struct Parsed {
    package: Package,
    mistakes: Vec<Mistake>,
    warnings: Vec<Warning>,
}

fn parse(text: impl AsRef<[u8]>) -> Parsed {
    let mut remarks = Remarks::new("f".into());
    let package = Package::parse(text.as_ref(), &mut remarks);
    let (mistakes, warnings) = remarks.finish();
    Parsed { package, mistakes, warnings }
}

fn accepted(text: impl AsRef<[u8]>) -> Package {
    let parsed = parse(text);
    assert_eq!(parsed.mistakes, []);
    parsed.package
}

fn mistakes(text: impl AsRef<[u8]>) -> Vec<String> {
    parse(text).mistakes.iter().map(ToString::to_string).collect()
}

/// What `uci show` prints.
fn show(package: &Package, name: &str, cfg_names: bool) -> Vec<u8> {
    let mut text = Vec::new();
    for section in &package.sections {
        let shown = if cfg_names { section.name.clone() } else { package.shown_name(section) };
        text.extend_from_slice(format!("{name}.{shown}={}\n", section.kind).as_bytes());
        for entry in &section.entries {
            text.extend_from_slice(format!("{name}.{shown}.{}=", entry.name).as_bytes());
            for (index, value) in entry.values.iter().enumerate() {
                if index > 0 {
                    text.push(b' ');
                }
                quote(&mut text, &value.bytes);
            }
            text.push(b'\n');
        }
    }
    text
}

#[track_caller]
fn same(ours: &[u8], theirs: &[u8]) {
    assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string());
}

#[test]
fn every_way_to_write_a_value_is_read_as_uci_reads_it() {
    let package = accepted(data("grammar.uci"));
    same(&show(&package, "grammar", false), &data("grammar.show"));
    same(&show(&package, "grammar", true), &data("grammar.show-x"));
    same(&package.export("grammar"), &data("grammar.export"));
}

#[test]
fn exported_text_is_read_and_written_as_uci_does() {
    let package = accepted(data("q.export"));
    same(&show(&package, "q", false), &data("q.show"));
    same(&show(&package, "q", true), &data("q.show-x"));
    same(&package.export("q"), &data("q.export"));

    let named = accepted(data("q.export-n"));
    same(&show(&named, "q", true), &data("q.show-x"));
    same(&named.export("q"), &data("q.export-n"));

    same(&accepted(data("committed")).to_file(), &data("committed"));
    same(&accepted("").export("bad"), b"package bad\n\n");
}

#[test]
fn what_was_written_is_read_back() {
    let forget_lines = |mut package: Package| {
        for section in &mut package.sections {
            section.line = 0;
            for entry in &mut section.entries {
                entry.values.iter_mut().for_each(|value| value.line = 0);
            }
        }
        package
    };
    for text in [data("grammar.uci"), b"config a';#\\\\' b\n\toption x '\"'\n".to_vec()] {
        let package = accepted(&text);
        assert!(!package.sections.is_empty());
        let again = accepted(package.to_file());
        assert_eq!(forget_lines(again), forget_lines(package));
    }
}

#[test]
fn what_uci_refuses_is_refused_at_the_same_line_and_byte() {
    let table = String::from_utf8(data("broken.tsv")).unwrap();
    let mut rows = 0;
    for row in table.lines() {
        let [text, line, byte, reason] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("{row}");
        };
        let text = text.replace("\\n", "\n").replace("\\t", "\t");
        // libuci counts line ends, so it does not count a last line without one.
        let line = line.parse::<u32>().unwrap() + u32::from(!text.ends_with('\n'));
        assert_eq!(mistakes(&text), [format!("f:{line}: {reason} (byte {byte})")], "{row}");
        rows += 1;
    }
    assert!(rows >= 30, "{rows}");
}

#[test]
fn every_mistake_is_found_and_the_rest_of_the_file_is_read() {
    let parsed = parse(
        "config t a\n\toption x-y 1\n\toption x 1\nconfig t b-c\n\toption lost 1\n\toption p q r\n\
         config t d\n\tgarbage\n\tlist l 1\n",
    );
    let lines: Vec<u32> = parsed.mistakes.iter().map(|mistake| mistake.line).collect();
    assert_eq!(lines, [2, 4, 6, 8]);
    same(&show(&parsed.package, "f", false), b"f.a=t\nf.a.x='1'\nf.d=t\nf.d.l='1'\n");
    let broken: Vec<bool> = parsed.package.sections.iter().map(|s| s.is_broken).collect();
    assert_eq!(broken, [true, true]);
}

#[test]
fn a_forgotten_quote_costs_one_line_and_is_reported_where_it_is() {
    let parsed = parse("config t a\n\toption x 'abc\n\toption y 'def'\n\toption z 'g'\nbad\n");
    let shown: Vec<String> = parsed.mistakes.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "f:2: EOF with unterminated ' (byte 49); a quoted string runs on to line 5",
            "f:5: invalid command (byte 0)"
        ]
    );
    same(&show(&parsed.package, "f", false), b"f.a=t\nf.a.y='def'\nf.a.z='g'\n");
}

#[test]
fn values_know_the_line_of_their_command() {
    let package = accepted("\n\nconfig t a\n\toption x 'a\nb'\n\tlist l 1 ; l l 2\n\tl l 3\n");
    assert_eq!(package.sections[0].line, 3);
    let lines = |name| {
        let entry = package.sections[0].entry(name).unwrap();
        entry.values.iter().map(|value| value.line).collect::<Vec<_>>()
    };
    assert_eq!(lines("x"), [4]);
    assert_eq!(lines("l"), [6, 6, 7]);
}

#[test]
fn line_ends_of_other_systems_and_missing_ones_are_read() {
    let package = accepted("config a b\r\n\toption x '1'\r\n\r\n\toption y 2\\\r\n3\r\nlist z 1");
    same(&show(&package, "f", false), b"f.b=a\nf.b.x='1'\nf.b.y='23'\nf.b.z='1'\n");
}

#[test]
fn a_command_that_uci_drops_is_warned_about() {
    let parsed =
        parse("config a b\noption x 1;option y 2\noption z 3 ; option w 4\noption v 1;# c\n");
    same(
        &show(&parsed.package, "f", false),
        b"f.b=a\nf.b.x='1'\nf.b.z='3'\nf.b.w='4'\nf.b.v='1'\n",
    );
    let lines: Vec<u32> = parsed.warnings.iter().map(|warning| warning.line).collect();
    assert_eq!((parsed.mistakes.len(), lines), (0, vec![2]));
}

#[test]
fn a_file_that_is_no_text_or_too_large_is_refused_as_a_whole() {
    assert_eq!(mistakes("config a b\n\0option"), ["f:2: not a text file: it has a NUL byte"]);
    let comment = vec![b'#'; FILE_MAX + 1];
    assert_eq!(mistakes(&comment), ["f: larger than 1048576 bytes"]);
    assert!(mistakes(&comment[1..]).is_empty());
}

#[test]
fn nothing_grows_without_a_limit() {
    let mut text = String::new();
    for number in 0..=SECTIONS_MAX {
        writeln!(text, "config a s{number}").unwrap();
    }
    let parsed = parse(&text);
    assert_eq!(parsed.package.sections.len(), SECTIONS_MAX);
    assert!(parsed.mistakes[0].reason.starts_with("too many sections"));

    let mut text = "config a b\n".to_owned();
    for number in 0..=OPTIONS_MAX {
        writeln!(text, "option o{number} 1").unwrap();
    }
    let parsed = parse(&text);
    assert_eq!(parsed.package.sections[0].entries.len(), OPTIONS_MAX);
    assert_eq!(parsed.mistakes.len(), 1);

    let parsed = parse(format!("config a b\n{}", "list l 1\n".repeat(VALUES_MAX + 1)));
    assert_eq!(parsed.package.sections[0].entries[0].values.len(), VALUES_MAX);
    assert_eq!(parsed.mistakes.len(), 1);

    let parsed = parse("bad\n".repeat(10_000));
    assert_eq!(parsed.mistakes.len(), REMARKS_MAX + 1);
    assert_eq!(parsed.mistakes[REMARKS_MAX].reason, "and 9936 more like these");
}

#[test]
fn no_truncation_or_stray_byte_stops_the_parser() {
    let text = data("grammar.uci");
    for len in 0..text.len() {
        parse(&text[..len]);
    }
    for at in 0..text.len() {
        for byte in [b'\'', b'"', b'\\', b';', b'#', b'\n', b'\r', b' ', 0x80] {
            let mut text = text.clone();
            text[at] = byte;
            let parsed = parse(&text);
            if parsed.mistakes.is_empty() {
                accepted(parsed.package.to_file());
            }
        }
    }
}
