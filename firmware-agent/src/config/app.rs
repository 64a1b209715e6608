//! Classes of applications: which domains are video, which are games.
//!
//! One file, named by `app_file`: on each line a class, a colon, and domains. A domain covers what is
//! below it; of several that cover a name the longest counts. A class may have several lines.

use std::path::Path;

use super::bounded::read_text;
use super::remark::{Remark, shown};
use super::uci::Package;
use super::values::{domain, is_name};
use super::{Builder, PACKAGE};

/// Classes and their domains.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Apps {
    /// The classes, in the order of the file.
    pub names: Vec<String>,
    /// Domains in lower case, each with the place of its class.
    pub domains: Vec<(String, u32)>,
}

impl Apps {
    /// Reads the text of a file; the numbers of lines that are wrong, and why.
    pub fn read(text: &str) -> Result<Self, Vec<(u32, String)>> {
        let (mut apps, mut mistakes) = (Self::default(), Vec::new());
        let mut known = std::collections::HashMap::new();
        for (line, number) in text.lines().zip(1..) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let Some((class, domains)) = line.split_once(':').filter(|(class, _)| is_name(class))
            else {
                mistakes.push((number, "is not a class, a colon and domains".to_owned()));
                continue;
            };
            let place = apps.names.iter().position(|name| name == class).unwrap_or_else(|| {
                apps.names.push(class.to_owned());
                apps.names.len() - 1
            }) as u32;
            for word in domains.split_ascii_whitespace() {
                match domain(word) {
                    Err(why) => mistakes.push((number, format!("{} {why}", shown(word)))),
                    Ok(domain) => match known.insert(domain.clone(), place) {
                        None => apps.domains.push((domain, place)),
                        Some(before) if before == place => {}
                        Some(_) => mistakes.push((number, format!("{domain} has two classes"))),
                    },
                }
            }
        }
        if mistakes.is_empty() { Ok(apps) } else { Err(mistakes) }
    }
}

impl Builder<'_> {
    /// Reads the file of classes. The second value is whether there is one.
    pub(super) fn read_apps(&mut self, package: &Package) {
        let Some(file) = self.config.main.app_file.clone() else { return };
        let path = format!("{PACKAGE}.main.app_file");
        let text = match read_text(&file) {
            Ok(text) => text,
            Err(why) => {
                let reason = format!("{}: {why}", shown(&file.to_string_lossy()));
                let line = self.main.unwrap_or_default();
                return self.remarks.mistake(line, path, reason);
            }
        };
        match Apps::read(&text) {
            Ok(apps) => self.config.apps = apps,
            Err(mistakes) => {
                let name: std::rc::Rc<str> = file.to_string_lossy().into();
                for (line, reason) in mistakes {
                    let file = std::rc::Rc::clone(&name);
                    let path = String::new();
                    self.remarks.mistake_about(Remark { file, line, path, reason });
                }
                return;
            }
        }
        self.check_classes(package, &file);
    }

    /// Classes that rules name are in the file.
    fn check_classes(&mut self, package: &Package, file: &Path) {
        for rule in &self.config.rules {
            let known = &self.config.apps.names;
            for class in rule.apps.iter().filter(|class| !known.contains(class)) {
                let reason = format!("there is no class {class} in {}", file.display());
                let path = format!("{PACKAGE}.{}.app", rule.name);
                self.remarks.mistake(package.line_of(&rule.name), path, reason);
            }
        }
    }

    /// Rules name classes only where there are some.
    pub(super) fn check_app_file(&mut self, package: &Package) {
        if self.config.main.app_file.is_some() {
            return;
        }
        for rule in self.config.rules.iter().filter(|rule| !rule.apps.is_empty()) {
            let reason = "needs option app_file in the section of type sluice".to_owned();
            let path = format!("{PACKAGE}.{}.app", rule.name);
            self.remarks.mistake(package.line_of(&rule.name), path, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read_and_mistakes_name_their_lines() {
        let text =
            "# ours\nvideo: a.example B.example.\n\ngames: c.example # why\nvideo: d.example";
        let apps = Apps::read(text).unwrap();
        assert_eq!(apps.names, ["video", "games"]);
        let domains: Vec<_> = apps.domains.iter().map(|(name, of)| (name.as_str(), *of)).collect();
        let expected = [("a.example", 0), ("b.example", 0), ("c.example", 1), ("d.example", 0)];
        assert_eq!(domains, expected);
        let wrong = "video: a.example\nno class\nvi deo: a\ngames: *.x.example a.example\n: b\n";
        let mistakes = Apps::read(wrong).unwrap_err();
        let lines: Vec<_> = mistakes.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [2, 3, 4, 4, 5]);
        assert!(mistakes[2].1.contains("wildcard") && mistakes[3].1.contains("two classes"));
    }

    /// R42: the file that comes with Sluice is right.
    #[test]
    fn our_own_file_is_right() {
        let text = include_str!("../../../config/apps");
        let apps = Apps::read(text).unwrap();
        assert!(apps.names.len() >= 10 && apps.domains.len() >= 140, "{}", apps.domains.len());
        assert!(text.lines().all(|line| line.len() <= 100));
    }
}
