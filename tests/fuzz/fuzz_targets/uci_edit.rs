//! Changes in the text of any UCI file: the text says what was asked for and nothing else, and a
//! refusal changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::config::edit::Editor;
use sluice::config::uci::Section;

/// Sections with their options and values, but for lines and the names of anonymous ones.
type Said = Vec<(String, Option<String>, Vec<(String, bool, Vec<Vec<u8>>)>)>;

fn said(file: &Editor) -> Said {
    let sections = file.package().sections.iter();
    sections
        .map(|section| {
            let name = (!section.is_anonymous).then(|| section.name.clone());
            let entries = section.entries.iter().map(|entry| {
                let values = entry.values.iter().map(|value| value.bytes.clone());
                (entry.name.clone(), entry.is_list, values.collect())
            });
            let mut entries: Vec<_> = entries.collect();
            entries.sort();
            (section.kind.clone(), name, entries)
        })
        .collect()
}

fuzz_target!(|data: &[u8]| {
    let Some((wishes, text)) = data.split_at_checked(12) else { return };
    let Ok(mut file) = Editor::new(text) else { return };
    for wish in wishes.chunks(3) {
        let [what, place, value] = [wish[0], wish[1], wish[2]];
        // A made-up name may be the one that another section is written with.
        let package = file.package();
        let is_taken = |section: &Section| {
            let mut others = package.sections.iter().filter(|other| other.name == section.name);
            section.is_anonymous && others.any(|other| !other.is_anonymous)
        };
        let address = |section: &Section| match is_taken(section) {
            true => package.shown_name(section),
            false => section.name.clone(),
        };
        let sections: Vec<String> = package.sections.iter().map(address).collect();
        let index = usize::from(place) % sections.len().max(1);
        let section = sections.get(index).cloned().unwrap_or_default();
        let entries = file.package().sections.get(index).map(|s| s.entries.clone());
        let names: Vec<String> =
            entries.into_iter().flatten().map(|entry| entry.name).chain(["new".into()]).collect();
        let option = &names[usize::from(what >> 3) % names.len()];
        let value =
            ["1", "it's", "a b", "\"", "\\", "x\ny", "#", ";", "", "é"][usize::from(value) % 10];
        let before = (file.text().to_vec(), said(&file));
        let done = match what & 7 {
            0 => file.set(&section, option, value),
            1 => file.push(&section, option, value),
            2 => file.pull(&section, option, value),
            3 => file.unset(&section, option),
            4 => file.remove(&section),
            5 => file.add("rule", Some("added")).map(drop),
            _ => file.add("rule", None).map(drop),
        };
        if done.is_err() {
            assert_eq!(file.text(), before.0);
            continue;
        }
        let after = said(&file);
        assert_eq!(said(&Editor::new(file.text()).unwrap()), after);
        // Everything else is as it was.
        let (mut old, mut new) = (before.1, after);
        match what & 7 {
            0..=3 => {
                old[index].2.retain(|(name, ..)| name != option);
                new[index].2.retain(|(name, ..)| name != option);
            }
            4 => drop(old.remove(index)),
            _ => drop(new.pop()),
        }
        assert_eq!(old, new);
    }
});
