//! The same inspection over a capture file: offline, without rights, in bounded memory.
//!
//! Owns reading pcap and pcapng and writing one JSON object per line. What is concluded from the
//! packets is the engine's alone. The same file and options give the same lines.

mod dhcp;
mod dns;
mod error;
mod flows;
mod line;
mod link;
mod pcap;
mod pcapng;
mod source;

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use sluice_abi::attach;
use sluice_datapath::parse::headers;

pub use self::error::ReplayError;
use self::flows::Flows;
use self::source::Source;
use crate::inspect::dns::Tap;
use crate::inspect::engine::{Engine, Limits, News, Outcome, Stats, Watch};
use crate::policy::Policy;
use crate::signature::Ruleset;

/// Longest packet that is read, as with the tools that write captures.
const PACKET_MAX: u32 = 256 * 1024;

/// How a capture is inspected.
#[derive(Debug, Default)]
pub struct Options {
    /// Rules; of schedules none holds.
    pub rules: Policy,
    /// The engine's limits.
    pub limits: Limits,
    /// Key of the engine's table. The lines do not depend on it.
    pub seed: [u64; 2],
    /// Rulesets that packets are compared with.
    pub rulesets: Vec<Ruleset>,
}

/// What was in a capture.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// Packets that are not IP.
    pub not_ip: u64,
    /// Packets of interfaces whose link type is not known here.
    pub unknown_link: u64,
    /// Lines of type `tls`.
    pub tls_lines: u64,
    /// Lines of type `quic`: one before each line of type `tls` about a ClientHello inside QUIC.
    pub quic_lines: u64,
    /// Lines about answers of TLS servers.
    pub answer_lines: u64,
    /// Lines about requests of plain HTTP.
    pub http_lines: u64,
    /// Lines about DNS messages.
    pub dns_lines: u64,
    /// Lines about DHCP messages.
    pub dhcp_lines: u64,
    /// Lines of type `alert`.
    pub alert_lines: u64,
    /// Lines of type `verdict`.
    pub verdict_lines: u64,
    /// Lines of type `flow`: one for each, when the capture has ended.
    pub flow_lines: u64,
    /// Flows that were still under inspection at the end.
    pub open_flows: u64,
    /// What the engine counted.
    pub stats: Stats,
}

/// One packet of a capture; its bytes are in the reader's buffer.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// Seconds and nanoseconds since 1970, where the file says.
    time: Option<(u64, u32)>,
    /// Link type, as registered for captures.
    link: u32,
    /// Length on the wire.
    original_len: u32,
}

/// Either format.
enum Capture<R> {
    Pcap(pcap::Reader<R>),
    Pcapng(pcapng::Reader<R>),
}

impl<R: Read> Capture<R> {
    fn open(reader: R) -> Result<Self, ReplayError> {
        let mut source = Source::new(reader);
        let mut magic = [0; 4];
        if !source.try_fill(&mut magic)? {
            return Err(ReplayError::Empty);
        }
        if u32::from_be_bytes(magic) == pcapng::SECTION_HEADER {
            return Ok(Self::Pcapng(pcapng::Reader::new(source)));
        }
        pcap::Reader::new(source, magic).map(Self::Pcap)
    }

    fn next(&mut self, data: &mut Vec<u8>) -> Result<Option<Record>, ReplayError> {
        match self {
            Self::Pcap(reader) => reader.next(data),
            Self::Pcapng(reader) => reader.next(data),
        }
    }
}

/// Inspects the capture at `path` and writes what it finds to `out`.
///
/// What was found before an error in the file is written all the same.
pub fn run(
    path: &Path,
    out: &mut (impl Write + ?Sized),
    options: Options,
) -> Result<Summary, ReplayError> {
    let file =
        File::open(path).map_err(|source| ReplayError::Open { path: path.to_owned(), source })?;
    run_reader(BufReader::with_capacity(1 << 16, file), out, options)
}

/// Inspects the capture that `reader` gives, as [`run`] does.
pub fn run_reader(
    reader: impl Read,
    out: &mut (impl Write + ?Sized),
    options: Options,
) -> Result<Summary, ReplayError> {
    // A capture has every packet, also those that a kernel would not queue any more.
    let limits = Limits { reads_answers: true, ..options.limits };
    let mut engine = Engine::new(limits, options.rules, options.seed);
    engine.set_watch(Watch::new(options.rulesets));
    let mut summary = Summary::default();
    let mut flows = Flows::default();
    let result = Capture::open(reader)
        .and_then(|mut capture| inspect(&mut capture, &mut engine, &mut flows, out, &mut summary));
    let told = flows.finish().try_for_each(|flow| {
        summary.flow_lines += 1;
        line::write(out, &flow)
    });
    let result = result.and(told);
    let flushed = out.flush().map_err(ReplayError::Write);
    result.and(flushed)?;
    summary.open_flows = engine.flows() as u64;
    summary.stats = engine.stats().clone();
    Ok(summary)
}

fn inspect(
    capture: &mut Capture<impl Read>,
    engine: &mut Engine,
    flows: &mut Flows,
    out: &mut (impl Write + ?Sized),
    summary: &mut Summary,
) -> Result<(), ReplayError> {
    let mut clock = Clock::default();
    let mut data = Vec::new();
    // The lines do not depend on its key.
    let mut tap = Tap::new([0, 0]);
    while let Some(record) = capture.next(&mut data)? {
        summary.packets += 1;
        let l3 = match link::network(record.link, &data) {
            Ok(Some(l3)) => l3,
            Ok(None) => {
                summary.not_ip += 1;
                continue;
            }
            Err(link::Unknown) => {
                summary.unknown_link += 1;
                continue;
            }
        };
        let before = data.len() - l3.len();
        let original_len = (record.original_len as usize).max(data.len()) - before;
        let step = engine.packet(clock.advance(record.time), l3, original_len);
        let Some((key, direction)) = step.flow else { continue };
        let time = record.time.map(line::seconds);
        let mut written = Ok(());
        tap.packet(l3, original_len, |found| {
            if written.is_ok() {
                summary.dns_lines += 1;
                written = line::write(out, &dns::message(time, &found));
            }
        });
        written?;
        let headers = headers(l3, attach::Link::Ip);
        if let Some(message) = headers.as_ref().ok().and_then(|headers| dhcp::payload(l3, headers))
        {
            line::write(out, &dhcp::message(time, &key, direction, message))?;
            summary.dhcp_lines += 1;
        }
        match &step.news {
            Some(News::Hello(hello)) => {
                if let Some(connection) = &hello.quic {
                    line::write(out, &line::quic(time, hello, connection))?;
                    summary.quic_lines += 1;
                }
                line::write(out, &line::tls(time, hello))?;
                summary.tls_lines += 1;
            }
            Some(News::Request(request)) => {
                line::write(out, &line::http(time, request))?;
                summary.http_lines += 1;
            }
            Some(News::Answer(answer)) => {
                line::write(out, &line::tls_answer(time, answer))?;
                summary.answer_lines += 1;
            }
            None => {}
        }
        for alert in step.alerts.iter().filter(|alert| alert.is_told) {
            line::write(out, &line::alert(time, &key, direction, alert))?;
            summary.alert_lines += 1;
        }
        let is_new = !step.is_repeated
            && matches!(step.outcome, Outcome::Decided(_) | Outcome::Undecided(_));
        if is_new {
            let original = step.original.unwrap_or(direction);
            line::write(out, &line::verdict(time, &key, original, step.outcome))?;
            summary.verdict_lines += 1;
        }
        if let Ok(headers) = headers
            && let Some(over) = flows.packet(time, &headers, original_len, &step)
        {
            line::write(out, &over)?;
            summary.flow_lines += 1;
        }
    }
    Ok(())
}

/// Makes a monotonic time of the times in a file, which may be absent or go back.
#[derive(Default)]
struct Clock {
    first_ms: Option<u64>,
    now_ms: u64,
}

impl Clock {
    fn advance(&mut self, time: Option<(u64, u32)>) -> u64 {
        if let Some((seconds, nanoseconds)) = time {
            let ms =
                seconds.saturating_mul(1000).saturating_add(u64::from(nanoseconds / 1_000_000));
            let first_ms = *self.first_ms.get_or_insert(ms);
            self.now_ms = self.now_ms.max(ms.saturating_sub(first_ms));
        }
        self.now_ms
    }
}

#[cfg(test)]
mod tests;
