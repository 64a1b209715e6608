//! Files of rules, line by line.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use super::error::{Invalid, Refusal};
use super::line::{LINE_MAX, Line, sid_of};
use super::list::{Known, Variables};
use super::options::{Lists, Parsed, parse};
use super::rule::{Protocol, Transport};

/// Rules outside the subset that are kept with their place; the rest is counted.
const LEFT_OUT_MAX: usize = 10;
/// Mistakes that are kept with their text; the rest is counted.
const MISTAKES_MAX: usize = 100;
/// Keywords that are counted one by one; the rest is counted as [`OTHER`].
const KEYWORDS_MAX: usize = 200;
/// Where the keywords go that are one too many.
const OTHER: &str = "other";

/// A rule that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The file's name.
    pub file: String,
    /// Where the rule starts, counted from 1.
    pub line: u32,
    /// The rule's number, if it can be read.
    pub sid: Option<u32>,
    /// What is wrong.
    pub reason: Invalid,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, sid, reason } = self;
        write!(f, "{file}:{line}: ")?;
        if let Some(sid) = sid {
            write!(f, "sid {sid}: ")?;
        }
        write!(f, "{reason}")
    }
}

/// A rule outside the subset.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LeftOut {
    /// The file's name.
    pub file: String,
    /// Where the rule starts, counted from 1.
    pub line: u32,
    /// The rule's number, if it can be read.
    pub sid: Option<u32>,
    /// What keeps it out.
    pub keywords: Vec<String>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, sid, keywords } = self;
        write!(f, "{file}:{line}: ")?;
        if let Some(sid) = sid {
            write!(f, "sid {sid}: ")?;
        }
        write!(f, "left out for {}", keywords.join(", "))
    }
}

/// What became of the rules.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Rules that are in force.
    pub rules: u32,
    /// Rules left out because they use something outside the subset.
    pub unsupported: u32,
    /// The first of those.
    pub left_out: Vec<LeftOut>,
    /// How many rules each keyword kept out. A rule counts for each of its keywords.
    pub keywords: BTreeMap<String, u32>,
    /// Rules left out because they are wrong.
    pub wrong: u32,
    /// The first of those.
    pub mistakes: Vec<Mistake>,
}

/// Reads rules. Give it a file's name, then its lines, then the next file.
#[derive(Debug)]
pub struct Loader {
    lists: Lists,
    /// Whether packets of ICMP are never given.
    is_without_icmp: bool,
    report: Report,
    files: Vec<String>,
    line: u32,
    /// What continues in the next line, and where it started.
    begun: Option<(u32, Vec<u8>)>,
    /// Where each number was, by gid and sid.
    seen: HashMap<(u32, u32), (u16, u32)>,
}

impl Loader {
    /// A loader with what `$NAME` stands for.
    #[must_use]
    pub fn new(variables: Variables) -> Self {
        let (addresses, ports) = (Known::addresses(), Known::ports());
        Self {
            lists: Lists { variables, addresses, ports },
            is_without_icmp: false,
            report: Report::default(),
            files: Vec::new(),
            line: 0,
            begun: None,
            seen: HashMap::new(),
        }
    }

    /// Also leaves out rules that could never match because nobody gives packets of ICMP.
    #[must_use]
    pub const fn without_icmp(mut self) -> Self {
        self.is_without_icmp = true;
        self
    }

    /// Starts a file. What the one before it left unfinished is a mistake.
    pub fn file(&mut self, name: impl Into<String>) {
        self.end();
        self.files.push(name.into());
        self.line = 0;
    }

    /// Takes the next line, without its end; a rule that ends in it is returned if it is in force.
    pub fn line(&mut self, line: &[u8]) -> Option<Parsed> {
        self.line = self.line.saturating_add(1);
        let line = line.trim_ascii();
        let (start, mut text) = match self.begun.take() {
            Some(begun) => begun,
            None if line.is_empty() || line.starts_with(b"#") => return None,
            None => (self.line, Vec::new()),
        };
        let (part, continues) = match line.strip_suffix(b"\\") {
            Some(part) => (part, true),
            None => (line, false),
        };
        // One byte too many is kept, to be noticed when the rule ends.
        let room = (LINE_MAX + 1).saturating_sub(text.len()).min(part.len());
        text.extend_from_slice(part.get(..room).unwrap_or_default());
        if continues {
            self.begun = Some((start, text));
            return None;
        }
        self.rule(start, &text)
    }

    /// Ends the last file.
    pub fn end(&mut self) {
        if let Some((start, text)) = self.begun.take() {
            let sid = std::str::from_utf8(&text).ok().and_then(sid_of);
            self.refuse(start, sid, Invalid::Shape("the file ends in the middle of a rule").into());
        }
    }

    /// Takes a whole file.
    pub fn text(&mut self, name: impl Into<String>, text: &[u8], mut sink: impl FnMut(Parsed)) {
        self.file(name);
        for line in text.split(|byte| *byte == b'\n') {
            if let Some(parsed) = self.line(line) {
                sink(parsed);
            }
        }
        self.end();
    }

    /// What became of the rules so far.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// Names of the files, in the order of their numbers.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Bytes of the lists that rules share.
    #[must_use]
    pub const fn lists_memory(&self) -> usize {
        self.lists.addresses.memory() + self.lists.ports.memory()
    }

    fn rule(&mut self, start: u32, text: &[u8]) -> Option<Parsed> {
        if text.len() > LINE_MAX {
            let sid = std::str::from_utf8(text).ok().and_then(sid_of);
            self.refuse(start, sid, Invalid::Shape("is longer than 16384 bytes").into());
            return None;
        }
        let Ok(text) = std::str::from_utf8(text) else {
            self.refuse(start, None, Invalid::Shape("is not UTF-8").into());
            return None;
        };
        let line = match Line::new(text) {
            Ok(line) => line,
            Err(reason) => {
                self.refuse(start, sid_of(text), reason.into());
                return None;
            }
        };
        let file = self.files.len().saturating_sub(1) as u16;
        let parsed = parse(&line, &mut self.lists, file, start);
        match parsed.and_then(|parsed| self.heard(parsed)).and_then(|parsed| self.first(parsed)) {
            Ok(parsed) => {
                self.report.rules += 1;
                Some(parsed)
            }
            Err(refusal) => {
                self.refuse(start, line.sid(), refusal);
                None
            }
        }
    }

    /// Refuses a rule about what is never given.
    fn heard(&self, parsed: Parsed) -> Result<Parsed, Refusal> {
        let is_icmp = parsed.rule.header.protocol == Protocol::Transport(Transport::Icmp);
        if self.is_without_icmp && is_icmp {
            return Err(Refusal::unsupported("protocol:icmp"));
        }
        Ok(parsed)
    }

    /// Refuses a number that another rule has.
    fn first(&mut self, parsed: Parsed) -> Result<Parsed, Refusal> {
        let rule = &parsed.rule;
        let place = (rule.file, rule.line);
        let (file, line) = *self.seen.entry((rule.gid, rule.sid)).or_insert(place);
        if (file, line) == place {
            return Ok(parsed);
        }
        let file = self.files.get(usize::from(file)).cloned().unwrap_or_default();
        Err(Invalid::Duplicate { file, line }.into())
    }

    fn refuse(&mut self, line: u32, sid: Option<u32>, refusal: Refusal) {
        let report = &mut self.report;
        match refusal {
            Refusal::Unsupported(keywords) => {
                report.unsupported += 1;
                if report.left_out.len() < LEFT_OUT_MAX {
                    let file = self.files.last().cloned().unwrap_or_default();
                    let keywords = keywords.clone();
                    report.left_out.push(LeftOut { file, line, sid, keywords });
                }
                for keyword in keywords {
                    let is_room = report.keywords.len() < KEYWORDS_MAX;
                    let is_there = is_room || report.keywords.contains_key(&keyword);
                    let keyword = if is_there { keyword } else { OTHER.to_owned() };
                    *report.keywords.entry(keyword).or_default() += 1;
                }
            }
            Refusal::Invalid(reason) => {
                report.wrong += 1;
                if report.mistakes.len() < MISTAKES_MAX {
                    let file = self.files.last().cloned().unwrap_or_default();
                    report.mistakes.push(Mistake { file, line, sid, reason });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> (Vec<Parsed>, Report) {
        let mut loader = Loader::new(Variables::default());
        let mut rules = Vec::new();
        loader.text("a.rules", text.as_bytes(), |parsed| rules.push(parsed));
        (rules, loader.report().clone())
    }

    #[test]
    fn a_rule_outside_the_subset_is_left_out_whole_and_counted_by_keyword() {
        let (rules, report) = load(concat!(
            "alert tcp any any -> any any (content:\"a\"; pcre:\"/a/\"; isdataat:1; pcre:\"/b/\"; sid:1;)\n",
            "alert tcp any any -> any any (content:\"a\"; pcre:\"/a/\"; sid:2;)\n",
            "alert sctp any any -> any any (sid:3;)\n",
            "rejectboth ip any any => any any (sid:4;)\n",
            "alert tcp any any -> any any (content:\"a\"; depth:x; flow:no_frag; sid:5;)\n",
            "alert tcp any any -> any any (content:\"a\"; sid:6;)\n",
        ));
        assert_eq!(rules.iter().map(|parsed| parsed.rule.sid).collect::<Vec<_>>(), [6]);
        assert_eq!((report.rules, report.unsupported, report.wrong), (1, 5, 0));
        let keywords: Vec<_> = report.keywords.iter().map(|(k, n)| (k.as_str(), *n)).collect();
        let expected = [
            ("action:rejectboth", 1),
            ("depth:name", 1),
            ("direction:=>", 1),
            ("isdataat", 1),
            ("pcre", 2),
            ("protocol:sctp", 1),
        ];
        assert_eq!(keywords, expected);
    }

    #[test]
    fn mistakes_name_file_line_and_number() {
        let (rules, report) = load(concat!(
            "# a comment\n",
            "\n",
            "alert tcp any any -> any any (content:\"a\"; depth:0; sid:1;)\n",
            "#alert tcp any any -> any any (pcre:\"/a/\"; sid:9;)\n",
            "alert tcp any any -> any any (content:\"a\"; \\\n",
            "    nocase; \\\n",
            "    sid:2;)\r\n",
            "alert tcp any any -> any any (content:\"b\"; sid:2; rev:2;)\n",
            "alert tcp any any any any (sid:3;)\n",
            "alert tcp any any -> any any (content:\"a\";)\n",
            "alert tcp $NET any -> any any (content:\"a\"; sid:4;)\n",
            "alert tcp any any -> any any (content:\"a\"; \\",
        ));
        assert_eq!(rules.len(), 1);
        assert_eq!((rules[0].rule.sid, rules[0].rule.line), (2, 5));
        let shown: Vec<String> = report.mistakes.iter().map(ToString::to_string).collect();
        let expected = [
            "a.rules:3: sid 1: depth: no number in its range",
            "a.rules:8: sid 2: the sid is that of a.rules line 5",
            "a.rules:9: sid 3: a rule starts with action, protocol, addresses, port, ->, addresses, port",
            "a.rules:10: sid: is missing",
            "a.rules:11: sid 4: address: an unknown variable",
            "a.rules:12: the file ends in the middle of a rule",
        ];
        assert_eq!(shown, expected);
        assert_eq!((report.rules, report.unsupported, report.wrong), (1, 0, 6));
    }

    #[test]
    fn what_is_kept_of_hostile_files_is_bounded() {
        let mut text = String::new();
        for n in 0..1000 {
            for option in [format!("keyword{n};"), "content:\"\";".to_owned()] {
                text += "alert tcp any any -> any any (";
                text += &option;
                text += " sid:1;)\n";
            }
        }
        text += &"alert \\\n".repeat(1 << 16);
        let (rules, report) = load(&text);
        assert!(rules.is_empty());
        assert_eq!((report.unsupported, report.wrong), (1000, 1001));
        assert_eq!(report.mistakes.len(), MISTAKES_MAX);
        assert!(report.keywords.len() <= KEYWORDS_MAX + 1);
        assert_eq!(report.keywords.values().sum::<u32>(), 1000);
    }

    #[test]
    fn bytes_that_are_no_text_and_endless_lines_are_mistakes() {
        let mut loader = Loader::new(Variables::default());
        loader.file("b");
        assert!(loader.line(b"alert tcp any any -> any any (msg:\"\xff\"; sid:1;)").is_none());
        let long = format!("alert tcp any any -> any any (msg:\"{}\"; sid:1;)", "a".repeat(20_000));
        assert!(loader.line(long.as_bytes()).is_none());
        let shown: Vec<String> = loader.report().mistakes.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["b:1: is not UTF-8", "b:2: is longer than 16384 bytes"]);
    }
}
