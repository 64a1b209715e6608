//! Regular expressions to search lines of text with: the usual signs without counts, groups that are
//! kept, and looking around. Time grows with the length of the text, never more.
//!
//! Known: `.` `[a-z]` `[^a]` `\d` `\w` `\s` `*` `+` `?` `|` `( )` `^` `$`, `\` before a sign, `(?i)` in
//! front for letters of either case.

/// Longest pattern.
const LEN_MAX: usize = 512;
/// Groups inside groups.
const DEPTH_MAX: usize = 32;

/// What one character may be.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Set {
    ranges: Vec<(char, char)>,
    is_negated: bool,
}

impl Set {
    fn has(&self, c: char) -> bool {
        self.ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != self.is_negated
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Step {
    One(Set),
    /// Goes on at both places.
    Either(usize, usize),
    Jump(usize),
    Start,
    End,
    Match,
}

/// A pattern that makes sense.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pattern {
    steps: Vec<Step>,
    ignores_case: bool,
}

impl Pattern {
    /// Reads a pattern, or says why it is none.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > LEN_MAX {
            return Err(format!("longer than {LEN_MAX} bytes"));
        }
        let (text, ignores_case) = match text.strip_prefix("(?i)") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let signs: Vec<char> = text.chars().map(|c| fold(c, ignores_case)).collect();
        let mut reader = Reader { signs: &signs, place: 0, steps: Vec::new() };
        reader.choice(0)?;
        if reader.place < signs.len() {
            return Err("`)` without `(`".to_owned());
        }
        reader.steps.push(Step::Match);
        Ok(Self { steps: reader.steps, ignores_case })
    }

    /// Whether it is anywhere in `text`.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        let mut now = Threads::new(self.steps.len());
        let mut next = Threads::new(self.steps.len());
        let mut rest = text.chars().peekable();
        let mut is_start = true;
        loop {
            let is_end = rest.peek().is_none();
            // Any place may be the first.
            if self.follow(&mut now, 0, is_start, is_end) {
                return true;
            }
            let Some(c) = rest.next() else { return false };
            let c = fold(c, self.ignores_case);
            is_start = false;
            next.clear();
            let is_end = rest.peek().is_none();
            for at in &now.list {
                if let Some(Step::One(set)) = self.steps.get(*at)
                    && set.has(c)
                    && self.follow(&mut next, at + 1, false, is_end)
                {
                    return true;
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
    }

    /// Adds the step at `at` and what can be reached from there without a character; whether that is
    /// the end of the pattern.
    fn follow(&self, threads: &mut Threads, at: usize, is_start: bool, is_end: bool) -> bool {
        let mut waiting = vec![at];
        while let Some(at) = waiting.pop() {
            if !threads.add(at) {
                continue;
            }
            match self.steps.get(at) {
                Some(Step::Match) => return true,
                Some(Step::Jump(to)) => waiting.push(*to),
                Some(Step::Either(one, other)) => waiting.extend([*one, *other]),
                Some(Step::Start) if is_start => waiting.push(at + 1),
                Some(Step::End) if is_end => waiting.push(at + 1),
                _ => {}
            }
        }
        false
    }
}

/// Steps that are under way, each once.
struct Threads {
    list: Vec<usize>,
    is_there: Vec<bool>,
}

impl Threads {
    fn new(steps: usize) -> Self {
        Self { list: Vec::new(), is_there: vec![false; steps] }
    }

    fn clear(&mut self) {
        self.list.clear();
        self.is_there.fill(false);
    }

    fn add(&mut self, at: usize) -> bool {
        let Some(is_there) = self.is_there.get_mut(at) else { return false };
        let is_new = !std::mem::replace(is_there, true);
        if is_new {
            self.list.push(at);
        }
        is_new
    }
}

const fn fold(c: char, ignores_case: bool) -> char {
    if ignores_case { c.to_ascii_lowercase() } else { c }
}

struct Reader<'a> {
    signs: &'a [char],
    place: usize,
    steps: Vec<Step>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.signs.get(self.place).copied()
    }

    fn take(&mut self) -> Option<char> {
        let sign = self.peek();
        self.place += usize::from(sign.is_some());
        sign
    }

    /// `a|b`
    fn choice(&mut self, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("too many groups inside each other".to_owned());
        }
        let begin = self.steps.len();
        self.sequence(depth)?;
        if self.peek() == Some('|') {
            self.take();
            self.insert(begin, Step::Either(begin + 1, 0));
            let jump = self.steps.len();
            self.steps.push(Step::Jump(0));
            self.steps[begin] = Step::Either(begin + 1, self.steps.len());
            self.choice(depth)?;
            self.steps[jump] = Step::Jump(self.steps.len());
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<(), String> {
        while let Some(sign) = self.peek() {
            if matches!(sign, '|' | ')') {
                break;
            }
            let begin = self.steps.len();
            self.atom(depth)?;
            while let Some(sign @ ('*' | '+' | '?')) = self.peek() {
                self.take();
                self.repeat(begin, sign);
            }
        }
        Ok(())
    }

    fn repeat(&mut self, begin: usize, sign: char) {
        if sign == '+' {
            let end = self.steps.len();
            self.steps.push(Step::Either(begin, end + 1));
            return;
        }
        self.insert(begin, Step::Either(begin + 1, 0));
        if sign == '*' {
            self.steps.push(Step::Jump(begin));
        }
        self.steps[begin] = Step::Either(begin + 1, self.steps.len());
    }

    /// Puts a step before others, which move.
    fn insert(&mut self, at: usize, step: Step) {
        let moved = |to: &mut usize| *to += usize::from(*to >= at);
        for step in &mut self.steps[at..] {
            match step {
                Step::Either(one, other) => {
                    moved(one);
                    moved(other);
                }
                Step::Jump(to) => moved(to),
                _ => {}
            }
        }
        self.steps.insert(at, step);
    }

    fn atom(&mut self, depth: usize) -> Result<(), String> {
        let one = |ranges: &[(char, char)], is_negated| {
            Step::One(Set { ranges: ranges.to_vec(), is_negated })
        };
        let step = match self.take() {
            Some('(') => {
                if self.peek() == Some('?') {
                    return Err("`(?` is known in front only, as `(?i)`".to_owned());
                }
                self.choice(depth + 1)?;
                return match self.take() {
                    Some(')') => Ok(()),
                    _ => Err("`(` without `)`".to_owned()),
                };
            }
            Some('[') => Step::One(self.set()?),
            Some('.') => one(&[], true),
            Some('^') => Step::Start,
            Some('$') => Step::End,
            Some('\\') => one(&self.escaped()?, false),
            Some(sign @ ('*' | '+' | '?')) => return Err(format!("`{sign}` behind nothing")),
            Some('{') => return Err("`{` has no meaning here; write `\\{`".to_owned()),
            Some(c) => one(&[(c, c)], false),
            None => return Ok(()),
        };
        self.steps.push(step);
        Ok(())
    }

    fn escaped(&mut self) -> Result<Vec<(char, char)>, String> {
        match self.take() {
            Some('d') => Ok(vec![('0', '9')]),
            Some('w') => Ok(vec![('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
            Some('s') => Ok(vec![('\t', '\r'), (' ', ' ')]),
            Some(c) if c.is_ascii_punctuation() => Ok(vec![(c, c)]),
            Some(c) => Err(format!("`\\{c}` has no meaning")),
            None => Err("`\\` at the end".to_owned()),
        }
    }

    fn set(&mut self) -> Result<Set, String> {
        let is_negated = self.peek() == Some('^');
        self.place += usize::from(is_negated);
        let mut ranges = Vec::new();
        loop {
            let from = match self.take() {
                None => return Err("`[` without `]`".to_owned()),
                Some(']') if !ranges.is_empty() => return Ok(Set { ranges, is_negated }),
                Some('\\') => {
                    ranges.extend(self.escaped()?);
                    continue;
                }
                Some(c) => c,
            };
            let is_range = self.peek() == Some('-')
                && self.signs.get(self.place + 1).is_some_and(|next| *next != ']');
            if !is_range {
                ranges.push((from, from));
                continue;
            }
            self.take();
            match self.take() {
                Some(to) if to >= from => ranges.push((from, to)),
                _ => return Err(format!("a range from `{from}` that ends before it")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_found_where_they_are() {
        #[rustfmt::skip]
        let cases: [(&str, &[&str], &[&str]); 22] = [
            ("", &["", "x"], &[]),
            ("ads", &["ads", "my.ads.test"], &["ad", "a.ds", "ADS"]),
            ("(?i)ads", &["ADS", "aDs.test"], &["ad"]),
            ("a.c", &["abc", "a\u{fc}c"], &["ac", "ab"]),
            ("a\\.c", &["a.c"], &["abc"]),
            ("^ab$", &["ab"], &["aab", "abb", ""]),
            ("^$", &[""], &["x"]),
            ("ab*c", &["ac", "abbbc"], &["ab"]),
            ("ab+c", &["abc", "abbbc"], &["ac"]),
            ("^ab?c$", &["ac", "abc"], &["abbc"]),
            ("cat|dog|cow", &["a dog", "cow", "cats"], &["do", "ow"]),
            ("^(ab|c)+$", &["ab", "abcab", "c"], &["", "abd", "a"]),
            ("^(a|b*)*c$", &["c", "abbac"], &["d"]),
            ("[a-c]x", &["ax", "cx"], &["dx", "x"]),
            ("[^a-c]x", &["dx", "-x"], &["ax", "x"]),
            ("[]a]", &["]", "a"], &["b"]),
            ("^[a-]+$", &["a-a"], &["b"]),
            ("\\d\\d:\\d\\d", &["at 12:34"], &["1:34"]),
            ("^\\w+\\s\\w+$", &["a_1 b"], &["a", "a-b c"]),
            ("(x(y(z)?)?)$", &["x", "xy", "xyz"], &["xz", "y"]),
            ("a||b", &["", "a"], &[]),
            ("[\\d.]+$", &["1.2"], &["1.2x"]),
        ];
        for (pattern, there, not_there) in cases {
            let read = Pattern::new(pattern).unwrap();
            for text in there {
                assert!(read.is_in(text), "{pattern} in {text}");
            }
            for text in not_there {
                assert!(!read.is_in(text), "{pattern} not in {text}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (pattern, hint) in [
            ("(a", "without `)`"),
            ("a)", "without `(`"),
            ("[a", "without `]`"),
            ("[b-a]", "ends before"),
            ("*a", "behind nothing"),
            ("a|+", "behind nothing"),
            ("a\\", "at the end"),
            ("\\q", "no meaning"),
            ("a{2}", "no meaning"),
            ("(?=a)", "in front only"),
        ] {
            let why = Pattern::new(pattern).unwrap_err();
            assert!(why.contains(hint), "{pattern}: {why}");
        }
        assert!(Pattern::new(&"(".repeat(100)).is_err());
        assert!(Pattern::new(&("a|".repeat(200) + "b")).unwrap().is_in("b"));
        assert!(Pattern::new(&"x".repeat(LEN_MAX + 1)).is_err());
    }

    /// What takes others a time that doubles with each letter.
    #[test]
    fn no_pattern_takes_long() {
        let text = "a".repeat(10_000);
        for pattern in ["(a*)*b", "(a|a)*b", &("a?".repeat(60) + &"a".repeat(60) + "b")] {
            assert!(!Pattern::new(pattern).unwrap().is_in(&text));
        }
    }
}
