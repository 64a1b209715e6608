use super::*;
use crate::policy::tests::Random;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/uci/");
const FILES: [&str; 4] = ["grammar.uci", "q.export", "q.export-n", "committed"];

fn data(name: &str) -> Vec<u8> {
    std::fs::read(format!("{DATA}{name}")).unwrap()
}

fn editor(text: impl AsRef<[u8]>) -> Editor {
    Editor::new(text.as_ref()).unwrap()
}

#[track_caller]
fn shows(editor: &Editor, text: &str) {
    assert_eq!(
        editor.text().escape_ascii().to_string(),
        text.as_bytes().escape_ascii().to_string()
    );
}

const FILE: &str = "# mine\nconfig rule  \"ads\" # why\n    option action 'block'   # as it was\n\n\
                    \t# two of them\n    list domain ads.test\n    list domain 'x y'\n\n# the other\n\
                    config group 'kids'\n\tlist device 02:00:5e:10:00:01\n";

#[test]
fn a_change_leaves_every_other_byte_alone() {
    let mut file = editor(FILE);
    file.set("ads", "action", "it's").unwrap();
    shows(&file, &FILE.replace("'block'", "'it'\\''s'"));
    file.set("ads", "action", "block").unwrap();
    shows(&file, FILE);
    file.set("ads", "until", "2026").unwrap();
    shows(&file, &FILE.replace("'x y'\n", "'x y'\n    option until '2026'\n"));
    file.unset("ads", "until").unwrap();
    file.push("ads", "domain", "z.test").unwrap();
    shows(&file, &FILE.replace("'x y'\n", "'x y'\n    list domain 'z.test'\n"));
    file.pull("ads", "domain", "x y").unwrap();
    shows(&file, &FILE.replace("'x y'", "'z.test'"));
    file.pull("ads", "domain", "not there").unwrap();
    file.unset("ads", "domain").unwrap();
    shows(&file, &FILE.replace("    list domain ads.test\n    list domain 'x y'\n", ""));
}

#[test]
fn a_section_that_comes_and_goes_leaves_no_trace() {
    for text in FILES.map(data).into_iter().chain([FILE.into(), vec![]]) {
        let mut file = editor(&text);
        assert_eq!(file.add("rule", Some("new")).as_deref(), Ok("new"));
        file.set("new", "action", "allow").unwrap();
        file.push("new", "domain", "a.test").unwrap();
        assert_eq!(file.add("rule", Some("new")), Err(EditError::Taken("new".to_owned())));
        assert!(file.text().starts_with(&text));
        // The last line gets its end.
        let text = if text.is_empty() || text.ends_with(b"\n") {
            text
        } else {
            [text, b"\n".to_vec()].concat()
        };
        file.remove("new").unwrap();
        assert_eq!(file.text(), text);
    }
    let mut file = editor("config a b\n");
    assert_eq!(file.add("rule", None).as_deref(), Ok("cfg0292bd"));
    file.set("@rule[0]", "x", "1").unwrap();
    shows(&file, "config a b\n\nconfig rule\n\toption x '1'\n");
    let mut file = editor("config a b\r\n\toption x 1");
    file.add("rule", Some("c")).unwrap();
    file.set("b", "y", "2").unwrap();
    let both = "config a b\r\n\toption x 1\r\n\toption y '2'\r\n\r\nconfig rule 'c'\r\n";
    shows(&file, both);
    let mut file = editor(FILE);
    file.remove("ads").unwrap();
    shows(&file, "# mine\n# the other\nconfig group 'kids'\n\tlist device 02:00:5e:10:00:01\n");
}

#[test]
fn a_made_up_name_never_stands_for_the_section_that_is_written_with_it() {
    // The second section of type rule would be called so.
    let mut file = editor("config rule 'cfg0292bd'\n");
    let taken = EditError::Taken("cfg0292bd".to_owned());
    assert_eq!(file.add("rule", None), Err(taken));
    shows(&file, "config rule 'cfg0292bd'\n");
    // A file may have both all the same.
    let mut file = editor("config rule 'cfg0292bd'\n\nconfig rule\n");
    file.set("cfg0292bd", "x", "1").unwrap();
    file.set("@rule[1]", "x", "2").unwrap();
    let both = "config rule 'cfg0292bd'\n\toption x '1'\n\nconfig rule\n\toption x '2'\n";
    shows(&file, both);
}

#[test]
fn a_section_in_several_places_is_one() {
    let text = "config a b\n\toption x 1\nconfig c d\nconfig a b\n\tlist l 1\n\toption x 2\n";
    let mut file = editor(text);
    file.set("b", "x", "3").unwrap();
    shows(&file, &text.replace("x 2", "x '3'"));
    file.unset("b", "x").unwrap();
    shows(&file, "config a b\nconfig c d\nconfig a b\n\tlist l 1\n");
    file.remove("b").unwrap();
    shows(&file, "config c d\n");
}

#[test]
fn what_was_replaced_does_not_count_again() {
    let mut file = editor("config a b\nlist x 1\noption x 2\nlist x 3\n");
    file.pull("b", "x", "2").unwrap();
    shows(&file, "config a b\nlist x 3\n");
    file.set("b", "x", "4").unwrap();
    shows(&file, "config a b\noption x '4'\n");
    let mut file = editor("config a b\noption x\noption y ''\n");
    file.set("b", "x", "1").unwrap();
    file.set("b", "y", "2").unwrap();
    shows(&file, "config a b\noption x '1'\noption y '2'\n");
}

#[test]
fn what_would_change_something_else_is_refused() {
    for text in [
        "config a b ; option x 1 ; option y 2\n",
        "config a b\noption x 1 ; option y 2\n",
        "config a b\noption x 'a\nb' ; option y 2\n",
    ] {
        let mut file = editor(text);
        assert!(matches!(file.unset("b", "x"), Err(EditError::Unclear(1 | 2))), "{text}");
        shows(&file, text);
        // In its place a value can be changed all the same.
        file.set("b", "x", "7").unwrap();
        assert_eq!(one(file.package().sections[0].entry("x").unwrap()), Some(&b"7"[..]));
    }
    let mut file = editor("config a b\noption x 1\\\n");
    assert!(file.push("b", "y", "1").is_err() || file.package().sections[0].entries.len() == 2);
    let mut file = editor(FILE);
    assert_eq!(file.set("none", "x", "1"), Err(EditError::NoSection("none".to_owned())));
    assert_eq!(file.set("ads", "x-y", "1"), Err(EditError::Name("x-y".to_owned())));
    assert_eq!(file.set("ads", "x", "a\x1b[31m"), Err(EditError::Value));
    assert_eq!(file.add("ru le", None), Err(EditError::Name("ru le".to_owned())));
    assert_eq!(file.add("rule", Some("")), Err(EditError::Name(String::new())));
    shows(&file, FILE);
    assert!(matches!(Editor::new(b"config a 'b\n"), Err(EditError::Broken(_))));
}

/// A model of one section's options, apart from the text.
type Model = Vec<(String, String, bool, Vec<String>)>;

fn model(file: &Editor) -> Model {
    let mut all = Vec::new();
    for section in &file.package().sections {
        for entry in &section.entries {
            let values = entry.values.iter().map(|v| v.bytes.escape_ascii().to_string());
            all.push((section.name.clone(), entry.name.clone(), entry.is_list, values.collect()));
        }
    }
    all.sort();
    all
}

/// R187: whatever is changed in whatever file, the text says that and nothing else, and what is not
/// about it stays byte by byte.
#[test]
fn edited_text_says_what_a_model_of_it_says() {
    let values = ["1", "it's", "a b", "\"", "\\", "x\ny", "#", ";", "", "é"];
    let options = ["name", "l", "a", "h", "new"];
    let mut refused = 0;
    for seed in 0..400 {
        let mut random = Random(seed);
        let mut pick = |n: usize| random.below(n as u64) as usize;
        let mut file = editor(data(FILES[pick(FILES.len())]));
        for _ in 0..12 {
            let sections: Vec<_> =
                file.package().sections.iter().map(|section| section.name.clone()).collect();
            let section = sections[pick(sections.len())].clone();
            let (option, value) = (options[pick(options.len())], values[pick(values.len())]);
            let before = (file.text().to_owned(), model(&file));
            let kept: Model = before
                .1
                .iter()
                .filter(|e| (&*e.0, &*e.1) != (&*section, option))
                .cloned()
                .collect();
            let old = before.1.iter().find(|e| (&*e.0, &*e.1) == (&*section, option)).cloned();
            let shown = value.as_bytes().escape_ascii().to_string();
            let (done, expected) = match pick(4) {
                0 => {
                    let new = (!value.is_empty()).then(|| (false, vec![shown]));
                    (file.set(&section, option, value), new)
                }
                1 => {
                    let mut list = old.map(|old| old.3).unwrap_or_default();
                    list.push(shown);
                    (file.push(&section, option, value), Some((true, list)))
                }
                2 => (file.unset(&section, option), None),
                _ => {
                    let left = old.map(|old| (old.2, old.3)).unwrap_or_default();
                    let list: Vec<_> = left.1.into_iter().filter(|v| *v != shown).collect();
                    let left = (!list.is_empty()).then_some((left.0, list));
                    (file.pull(&section, option, value), left)
                }
            };
            if done.is_err() {
                refused += 1;
                assert_eq!(file.text(), before.0);
                continue;
            }
            let mut all = kept;
            all.extend(
                expected.map(|(is_list, list)| (section.clone(), option.to_owned(), is_list, list)),
            );
            all.sort();
            assert_eq!(model(&file), all, "seed {seed} {section}.{option} {value:?}");
            assert_eq!(model(&editor(file.text())), all, "read again");
            // Comments are nobody's.
            let comments = |text: &[u8]| {
                text.split(|b| *b == b'\n').filter(|l| l.trim_ascii().starts_with(b"#")).count()
            };
            assert_eq!(comments(file.text()), comments(&before.0));
        }
    }
    assert!(refused < 400, "{refused} of 4800 were refused");
}
