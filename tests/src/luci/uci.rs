//! The object `uci` of rpcd for one file, with changes that wait until they are applied.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};

/// A section: its type, its name, its options as rpcd tells them.
#[derive(Clone, Debug)]
struct Section {
    kind: String,
    name: String,
    options: Map<String, Json>,
}

/// The file, and what waits.
#[derive(Debug)]
pub(super) struct Uci {
    file: PathBuf,
    waiting: Option<Vec<Section>>,
}

impl Uci {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), waiting: None }
    }

    /// Nothing for what is not there.
    pub(super) fn call(&mut self, method: &str, arguments: &Json) -> Option<Json> {
        let mut sections = self.waiting.clone().unwrap_or_else(|| self.read());
        let named = arguments["section"].as_str().unwrap_or_default();
        let at = sections.iter().position(|section| section.name == named);
        match method {
            "get" => return Some(json!({"values": told(&sections)})),
            "apply" => {
                if let Some(sections) = self.waiting.take() {
                    std::fs::write(&self.file, text(&sections)).ok()?;
                }
                return Some(json!({}));
            }
            "confirm" | "order" => {}
            "set" => {
                let options = &mut sections.get_mut(at?)?.options;
                for (name, value) in arguments["values"].as_object()? {
                    options.insert(name.clone(), value.clone());
                }
            }
            "add" => {
                let kind = arguments["type"].as_str()?.to_owned();
                let name = arguments["name"].as_str()?.to_owned();
                let options = arguments["values"].as_object().cloned().unwrap_or_default();
                sections.push(Section { kind, name, options });
            }
            "delete" => match arguments["options"].as_array() {
                Some(gone) => {
                    let options = &mut sections.get_mut(at?)?.options;
                    options.retain(|name, _| !gone.iter().any(|one| one == name));
                }
                None => {
                    sections.remove(at?);
                }
            },
            _ => return None,
        }
        self.waiting = Some(sections);
        Some(json!({}))
    }

    /// The file as tests and the agent write it: one command on a line, values in quotes.
    fn read(&self) -> Vec<Section> {
        let file = std::fs::read_to_string(&self.file).unwrap_or_default();
        let mut sections: Vec<Section> = Vec::new();
        for line in file.lines() {
            let mut words = line.trim().splitn(3, ' ');
            let (Some(command), Some(word)) = (words.next(), words.next()) else { continue };
            let value = words.next().unwrap_or_default().trim_matches('\'').to_owned();
            match (command, sections.last_mut()) {
                ("config", _) => sections.push(Section {
                    kind: word.trim_matches('\'').to_owned(),
                    name: value,
                    options: Map::new(),
                }),
                ("option", Some(section)) => {
                    section.options.insert(word.to_owned(), value.into());
                }
                ("list", Some(section)) => {
                    let list = section.options.entry(word).or_insert_with(|| json!([]));
                    if let Some(list) = list.as_array_mut() {
                        list.push(value.into());
                    }
                }
                _ => {}
            }
        }
        sections
    }
}

fn told(sections: &[Section]) -> Json {
    let sections = sections.iter().enumerate().map(|(index, section)| {
        let mut members = section.options.clone();
        members.insert(".type".to_owned(), section.kind.clone().into());
        members.insert(".name".to_owned(), section.name.clone().into());
        members.insert(".index".to_owned(), index.into());
        members.insert(".anonymous".to_owned(), false.into());
        (section.name.clone(), Json::Object(members))
    });
    Json::Object(sections.collect())
}

fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        let _infallible = writeln!(text, "\nconfig {} '{}'", section.kind, section.name);
        for (name, value) in &section.options {
            let _infallible = match value {
                Json::Array(values) => values.iter().try_for_each(|value| {
                    writeln!(text, "\tlist {name} '{}'", value.as_str().unwrap_or_default())
                }),
                value => writeln!(text, "\toption {name} '{}'", value.as_str().unwrap_or_default()),
            };
        }
    }
    text
}
