//! The flows of a capture as a whole: when they were, how much each side sent, what was concluded.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sluice_abi::flow::{Direction, FlowKey};
use sluice_datapath::parse::{FIN, Headers, RST, TCP};

use super::line::Line;
use crate::inspect::engine::{News, Outcome, Step};
use crate::text::transport;

/// Flows that are counted at a time. Beyond it the one that began first is written as it is then.
const FLOWS_MAX: usize = 65_536;

/// How a TCP connection was seen to end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum End {
    /// It was not.
    #[default]
    None,
    /// One side has said that it sends no more.
    Half,
    /// Both have.
    Fin,
    /// It was broken off.
    Rst,
}

/// One flow.
#[derive(Clone, Debug, Default, Serialize)]
struct Flow {
    transport: &'static str,
    /// Seconds of its last packet.
    last: Option<f64>,
    original_packets: u64,
    original_bytes: u64,
    reply_packets: u64,
    reply_bytes: u64,
    end: Option<End>,
    name: Option<Box<str>>,
    protocol: Option<&'static str>,
    verdict: &'static str,
    /// When, which flow, and which way its first packet travelled.
    #[serde(skip)]
    first: Option<(Option<f64>, FlowKey, Direction)>,
    /// Directions whose end was seen.
    #[serde(skip)]
    finished: [bool; 2],
}

/// Counts the flows of a capture.
#[derive(Debug, Default)]
pub(super) struct Flows {
    /// In the order in which they began.
    counted: BTreeMap<u64, Flow>,
    by_key: HashMap<FlowKey, u64>,
    begun: u64,
}

impl Flows {
    /// Counts a packet of a flow. Gives the line about one that is over because of it: its ports
    /// have become another connection, or there are too many.
    pub(super) fn packet(
        &mut self,
        time: Option<f64>,
        headers: &Headers,
        len: usize,
        step: &Step,
    ) -> Option<Line<impl Serialize + use<>>> {
        let (key, direction) = step.flow?;
        let known = self.by_key.get(&key).copied();
        let is_over =
            |flow: &Flow| headers.is_syn() && flow.end.is_some_and(|end| end != End::None);
        let mut over = known.filter(|number| self.counted.get(number).is_some_and(is_over));
        if known.is_none() && self.counted.len() >= FLOWS_MAX {
            over = self.counted.keys().next().copied();
        }
        let over = over.and_then(|number| self.take(number));
        let number = self.by_key.get(&key).copied().unwrap_or_else(|| {
            self.begun += 1;
            let original = step.original.unwrap_or(direction);
            let is_tcp = key.proto() == TCP;
            let flow = Flow {
                transport: transport(key.proto()),
                end: is_tcp.then_some(End::None),
                verdict: "inspect",
                first: Some((time, key, original)),
                ..Flow::default()
            };
            self.counted.insert(self.begun, flow);
            self.by_key.insert(key, self.begun);
            self.begun
        });
        if let Some(flow) = self.counted.get_mut(&number) {
            flow.count(time, headers, len as u64, direction);
            flow.learn(step);
        }
        over.and_then(Flow::line)
    }

    /// The lines about the flows that are left, in the order in which they began.
    pub(super) fn finish(self) -> impl Iterator<Item = Line<impl Serialize>> {
        self.counted.into_values().filter_map(Flow::line)
    }

    fn take(&mut self, number: u64) -> Option<Flow> {
        let flow = self.counted.remove(&number)?;
        let (_, key, _) = flow.first?;
        self.by_key.remove(&key);
        Some(flow)
    }
}

impl Flow {
    fn count(&mut self, time: Option<f64>, headers: &Headers, len: u64, direction: Direction) {
        let Some((_, _, original)) = self.first else { return };
        let is_reply = direction != original;
        if is_reply {
            self.reply_packets += 1;
            self.reply_bytes += len;
        } else {
            self.original_packets += 1;
            self.original_bytes += len;
        }
        self.last = time.or(self.last);
        let Some(end) = &mut self.end else { return };
        if headers.tcp_flags & FIN != 0 {
            self.finished[usize::from(is_reply)] = true;
        }
        *end = match self.finished {
            _ if *end == End::Rst || headers.tcp_flags & RST != 0 => End::Rst,
            [true, true] => End::Fin,
            [false, false] => End::None,
            _ => End::Half,
        };
    }

    fn learn(&mut self, step: &Step) {
        let name = match &step.news {
            Some(News::Hello(hello)) => hello.sni.as_deref(),
            Some(News::Request(request)) => request.host.as_deref(),
            _ => None,
        };
        self.name = name.map(Into::into).or_else(|| self.name.take());
        if let Some(news) = &step.news {
            self.protocol = Some(news.protocol().name());
        }
        match step.outcome {
            Outcome::Decided(decision) => {
                self.verdict = decision.verdict.name();
                self.protocol =
                    decision.protocol.map(|(protocol, _)| protocol.name()).or(self.protocol);
            }
            Outcome::Undecided(_) => self.verdict = "undecided",
            Outcome::NotAFlow | Outcome::Inspect => {}
        }
    }

    fn line(self) -> Option<Line<Self>> {
        let (time, key, original) = self.first?;
        Some(Line::new("flow", time, &key, original, self))
    }
}
