//! Events that are kept: so many and so large, in memory alone, until others need their room.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value};

use crate::control::events::filter::{Filter, Question, kind};
use crate::control::events::{self, Event, Kind, Page, Which};

/// Events that are kept.
pub(super) const KEPT_MAX: usize = 256;
/// Bytes of them.
pub(super) const BYTES_MAX: usize = 128 << 10;

/// An event as it is kept.
#[derive(Debug)]
struct Line {
    /// Counts events of this agent, from 1.
    id: u32,
    at_ns: u64,
    kind: Kind,
    is_archived: bool,
    json: Box<str>,
}

impl Line {
    /// As an object, with what changes while it is kept.
    fn object(&self, now_ns: u64) -> Option<Value> {
        let mut object: Map<String, Value> = serde_json::from_slice(self.json.as_bytes()).ok()?;
        let s_ago = now_ns.saturating_sub(self.at_ns) / 1_000_000_000;
        object.insert("s_ago".to_owned(), s_ago.into());
        object.insert("id".to_owned(), self.id.into());
        object.insert("archived".to_owned(), self.is_archived.into());
        Some(Value::Object(object))
    }
}

/// Events, the last one last.
#[derive(Debug, Default)]
pub(super) struct Kept {
    lines: VecDeque<Line>,
    last: u32,
}

impl Kept {
    /// Keeps one. What is too large to be kept is not; the others never pay for it.
    pub(super) fn push(&mut self, at_ns: u64, event: &Event, time: Option<f64>) {
        let Ok(json) = serde_json::to_string(&event.object(time)) else { return };
        if json.len() > BYTES_MAX {
            return;
        }
        self.last = self.last.wrapping_add(1);
        let (id, kind, json) = (self.last, event.kind, json.into());
        self.lines.push_back(Line { id, at_ns, kind, is_archived: false, json });
        while self.lines.len() > KEPT_MAX || self.bytes() > BYTES_MAX {
            let over = self.superfluous();
            self.lines.remove(over);
        }
    }

    fn bytes(&self) -> usize {
        self.lines.iter().map(|line| line.json.len()).sum()
    }

    /// The one that goes: of the type that takes most, the first that is archived, else the first. A
    /// flood of one type costs no other.
    fn superfluous(&self) -> usize {
        let mut sizes = [0; Kind::ALL.len()];
        for line in &self.lines {
            sizes[line.kind as usize] += line.json.len();
        }
        let most = Kind::ALL.into_iter().max_by_key(|kind| sizes[*kind as usize]);
        let find = |is: &dyn Fn(&Line) -> bool| self.lines.iter().position(is);
        find(&|line| Some(line.kind) == most && line.is_archived)
            .or_else(|| find(&|line| Some(line.kind) == most))
            .unwrap_or(0)
    }

    /// All of them, the last first.
    pub(super) fn all(&self, now_ns: u64) -> Vec<Value> {
        self.lines.iter().rev().filter_map(|line| line.object(now_ns)).collect()
    }

    /// Those that are asked for.
    pub(super) fn page(&self, now_ns: u64, question: &Question) -> Result<Page, String> {
        let filter = Filter::try_from(question)?;
        let mut fit = self.all(now_ns);
        fit.retain(|event| filter.fits(event));
        let mut open = BTreeMap::new();
        for line in self.lines.iter().filter(|line| !line.is_archived) {
            *open.entry(line.kind.name().to_owned()).or_default() += 1;
        }
        let limit = question.limit.unwrap_or(events::DEFAULT) as usize;
        let total = fit.len() as u64;
        let events = fit.into_iter().skip(question.offset as usize).take(limit).collect();
        Ok(Page { total, offset: question.offset.into(), open, muted: Vec::new(), events })
    }

    /// Archives events; how many that were not.
    pub(super) fn archive(&mut self, which: &Which) -> Result<u64, String> {
        let name = which.kind.as_deref().filter(|kind| !kind.is_empty());
        let kind = name.map(kind).transpose()?;
        if let Some(id) = which.id
            && !self.lines.iter().any(|line| line.id == id)
        {
            return Err(format!("there is no event {id} any more"));
        }
        let mut count = 0;
        for line in &mut self.lines {
            let is_meant = which.id.is_none_or(|id| line.id == id)
                && kind.is_none_or(|kind| line.kind == kind)
                && which.until.is_none_or(|until| line.id <= until);
            if is_meant && !line.is_archived {
                line.is_archived = true;
                count += 1;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::events::Severity;

    fn event(kind: Kind, n: u32, len: usize) -> Event {
        Event::new(kind, Severity::Warning, format!("{n} {}", "x".repeat(len)))
    }

    fn kinds(kept: &Kept) -> [usize; Kind::ALL.len()] {
        Kind::ALL.map(|kind| kept.lines.iter().filter(|line| line.kind == kind).count())
    }

    #[test]
    fn memory_of_events_is_bounded() {
        let mut kept = Kept::default();
        for n in 0..1000 {
            kept.push(n.into(), &event(Kind::Attack, n, 10), None);
        }
        assert_eq!((kept.lines.len(), kept.lines[0].at_ns), (KEPT_MAX, 1000 - 256));
        for n in 0..100 {
            kept.push(2000, &event(Kind::Attack, n, 10_000), None);
        }
        assert!(kept.bytes() <= BYTES_MAX && kept.lines.len() == 13, "{}", kept.lines.len());
        kept.push(1, &event(Kind::Attack, 0, 1 << 20), None);
        assert_eq!(kept.lines.len(), 13, "one that is too large costs no other");
    }

    /// R177: what floods makes room for itself, archived ones first.
    #[test]
    fn a_flood_of_one_type_leaves_the_others() {
        let mut kept = Kept::default();
        kept.push(1, &event(Kind::Health, 0, 10), None);
        for n in 0..20 {
            kept.push(2, &event(Kind::Verdict, n, 10), None);
        }
        let last_seen = kept.last;
        assert_eq!(kept.archive(&Which { id: Some(5), ..Which::default() }), Ok(1));
        for n in 0..236 {
            kept.push(3, &event(Kind::Verdict, n, 10), None);
        }
        assert_eq!(kinds(&kept).iter().sum::<usize>(), KEPT_MAX);
        assert!(!kept.lines.iter().any(|line| line.id == 5), "the archived one");
        assert!(kept.lines.iter().any(|line| line.id == 2), "the first of its type");
        for n in 0..1000 {
            kept.push(4, &event(Kind::Verdict, n, 10), None);
        }
        assert_eq!(kinds(&kept)[Kind::Health as usize], 1);
        assert!(last_seen < kept.lines[1].id);
    }

    /// R151, R177: pages by type and mark; what nobody has seen yet is not archived.
    #[test]
    fn events_are_told_in_pages_and_archived_by_number_and_type() {
        let mut kept = Kept::default();
        for n in 0..10 {
            let kind = if n % 2 == 0 { Kind::Alert } else { Kind::List };
            kept.push(u64::from(n) * 1_000_000_000, &event(kind, n, 1), None);
        }
        let now_ns = 10_000_000_000;
        let ids = |question: &Question, kept: &Kept| {
            let page = kept.page(now_ns, question).unwrap();
            let ids = page.events.iter().map(|event| event["id"].as_u64().unwrap());
            (page.total, ids.collect::<Vec<_>>())
        };
        let of = |kinds: &str, offset, limit| Question {
            kinds: Some(kinds.to_owned()),
            offset,
            limit: Some(limit),
            ..Question::default()
        };
        assert_eq!(ids(&of("alert", 0, 2), &kept), (5, vec![9, 7]));
        assert_eq!(ids(&of("alert", 3, 9), &kept), (5, vec![3, 1]));
        assert_eq!(ids(&of("alert,list", 9, 9), &kept), (10, vec![1]));
        assert_eq!(ids(&of("list", u32::MAX, 9), &kept), (5, vec![]));
        assert!(kept.page(now_ns, &of("x", 0, 1)).unwrap_err().contains("`x` is no type: verdict"));

        let which = |id, kind: &str, until| Which { id, kind: Some(kind.to_owned()), until };
        assert_eq!(kept.archive(&which(Some(10), "", None)), Ok(1));
        assert_eq!(kept.archive(&which(Some(10), "", None)), Ok(0), "again");
        assert_eq!(kept.archive(&which(None, "alert", Some(5))), Ok(3));
        assert!(kept.archive(&which(Some(11), "", None)).unwrap_err().contains("no event 11"));
        assert!(kept.archive(&which(None, "\u{1b}", None)).unwrap_err().contains("is no type"));
        let open = Question { archived: Some(0), ..Question::default() };
        assert_eq!(ids(&open, &kept), (6, vec![9, 8, 7, 6, 4, 2]));
        let put_away = Question { archived: Some(1), ..Question::default() };
        assert_eq!(ids(&put_away, &kept), (4, vec![10, 5, 3, 1]));
        let page = kept.page(now_ns, &put_away).unwrap();
        assert_eq!(page.open, BTreeMap::from([("alert".to_owned(), 2), ("list".to_owned(), 4)]));
        assert_eq!(
            (&page.events[3]["s_ago"], &page.events[3]["archived"]),
            (&10.into(), &true.into())
        );
        assert_eq!(kept.archive(&Which::default()), Ok(6));
    }
}
