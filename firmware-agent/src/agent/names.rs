//! Names for flows that do not say whom they are for: DNS messages on their way, and what flows get
//! of them.
//!
//! A packet socket on each device of the LAN shows what its devices ask, whoever answers. Where there
//! is none, the queue shows what is forwarded. A question counts on its way in, an answer on its way
//! out to the LAN, so that no device can answer for the router.

use std::future::poll_fn;
use std::task::{Context, Poll};

use sluice_abi::flow::{Addr, Direction, FlowKey};
use smol::{Async, channel, future};

use super::inspector::Inspector;
use super::running::{Running, State};
use crate::config::Mac;
use crate::control::names::Report;
use crate::control::report::{Feature, State as Health};
use crate::dataplane::table;
use crate::inspect::dns::{CLASS_IN, Found, Message, Tap};
use crate::names::{Asked, Names, Questions, Source};
use crate::policy::{Ends, Path, Zone};
use crate::sys::clock;
use crate::sys::packet::{COPY_MAX, DnsSocket};

/// Packets of one device that are looked at in one go.
const BURST: usize = 64;

/// Owns what is known about names, and the sockets that it comes from.
pub(super) struct Resolutions {
    known: Names,
    questions: Questions,
    tap: Tap,
    ears: Vec<Ear>,
    /// LAN interfaces without a socket, and why.
    deaf: Vec<(u8, String)>,
    /// Tells the task that waits that there are other sockets.
    news: (channel::Sender<()>, channel::Receiver<()>),
    buffer: Box<[u8]>,
    totals: Totals,
}

/// A socket on a device.
struct Ear {
    ifindex: u32,
    socket: Async<DnsSocket>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    questions: u64,
    answers: u64,
    unasked: u64,
    unanswered: u64,
    malformed: u64,
    lost: u64,
}

impl Resolutions {
    /// Room for so many pairs of a device and an address; 0 is off. `seed` is secret.
    pub(super) fn new(max: usize, seed: [u64; 2]) -> Self {
        Self {
            known: Names::new(max),
            questions: Questions::default(),
            tap: Tap::new(seed),
            ears: Vec::new(),
            deaf: Vec::new(),
            news: channel::bounded(1),
            buffer: vec![0; COPY_MAX].into_boxed_slice(),
            totals: Totals::default(),
        }
    }

    /// Listens on these devices of the LAN, each with the number of its interface, and on no others.
    fn listen(&mut self, max: usize, lan: &[(u32, u8)]) {
        if max != self.known.max() {
            self.known = Names::new(max);
        }
        let wanted = if max == 0 { &[] } else { lan };
        self.ears.retain(|ear| wanted.iter().any(|(ifindex, _)| *ifindex == ear.ifindex));
        self.deaf.clear();
        for &(ifindex, number) in wanted {
            if self.ears.iter().any(|ear| ear.ifindex == ifindex) {
                continue;
            }
            match DnsSocket::open(ifindex).and_then(Async::new) {
                Ok(socket) => {
                    self.ears.push(Ear { ifindex, socket });
                    let _told_already = self.news.0.try_send(());
                }
                Err(error) => self.deaf.push((number, error.to_string())),
            }
        }
    }

    /// Takes a queued packet, if no socket shows its device's.
    pub(super) fn queued(&mut self, now_ms: u64, l3: &[u8], wire_len: usize, path: &Path) {
        let is_deaf = |number: u8| self.deaf.iter().any(|(deaf, _)| *deaf == number);
        let lan = |zone: Option<Zone>| zone.filter(|zone| zone.is_lan);
        match (lan(path.from), lan(path.to)) {
            (Some(from), _) if is_deaf(from.number) => {
                self.take(now_ms, l3, wire_len, Way::In(path.mac));
            }
            (_, Some(to)) if is_deaf(to.number) => self.take(now_ms, l3, wire_len, Way::Out),
            _ => {}
        }
    }

    /// Takes what the sockets have seen by now.
    pub(super) fn hear(&mut self, now_ms: u64) {
        let ears = std::mem::take(&mut self.ears);
        let mut buffer = std::mem::take(&mut self.buffer);
        for ear in &ears {
            for _ in 0..BURST {
                match ear.socket.get_ref().receive(&mut buffer) {
                    Ok(Some(seen)) => {
                        let mac = seen.mac.map(Mac);
                        let way = if seen.is_outgoing { Way::Out } else { Way::In(mac) };
                        self.take(now_ms, seen.l3, seen.wire_len, way);
                    }
                    Ok(None) => break,
                    // The device is down or gone: the next look at the devices knows.
                    Err(error) => {
                        log::debug!("receive from a packet socket: {error}");
                        break;
                    }
                }
            }
        }
        (self.ears, self.buffer) = (ears, buffer);
    }

    fn take(&mut self, now_ms: u64, l3: &[u8], wire_len: usize, way: Way) {
        let Self { known, questions, tap, totals, .. } = self;
        tap.packet(l3, wire_len, |found| {
            totals.malformed += u64::from(found.message.is_err());
            match way {
                Way::In(mac) => {
                    if let Some(query) = found.query() {
                        totals.questions += 1;
                        let key = (found.key, found.direction);
                        with_question(&query, key, |asked| questions.ask(now_ms, asked, mac));
                    }
                }
                Way::Out => {
                    if let Some(response) = found.response() {
                        let learned = learn(now_ms, &found, &response, questions, known);
                        totals.answers += u64::from(learned);
                        totals.unasked += u64::from(!learned);
                    }
                }
            }
        });
    }

    /// Forgets what is old, and counts what found no room.
    pub(super) fn expire(&mut self, now_ms: u64) {
        self.known.expire(now_ms);
        self.totals.unanswered += self.questions.expire(now_ms);
        let lost = self.ears.iter().map(|ear| u64::from(ear.socket.get_ref().lost()));
        self.totals.lost += lost.sum::<u64>();
    }

    /// The name of the other end of a flow that its device opened, as that device was told it.
    pub(super) fn name(&self, now_ms: u64, ends: &Ends, opener: Addr) -> Option<table::Learned> {
        if ends.device != opener {
            return None;
        }
        let (name, source) = self.known.find(now_ms, (ends.device, ends.mac), ends.peer)?;
        Some(table::Learned { name: name.into(), source: source.name() })
    }

    fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        // All of them, so that each wakes the task.
        let ready = self.ears.iter().filter(|ear| ear.socket.poll_readable(context).is_ready());
        if ready.count() > 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What was seen, for `status`.
    pub(super) fn report(&self) -> Report {
        let Totals { questions, answers, unasked, unanswered, malformed, lost } = self.totals;
        Report {
            entries: self.known.len() as u64,
            capacity: self.known.max() as u64,
            questions,
            answers,
            unasked,
            unanswered,
            malformed,
            lost,
        }
    }
}

/// Which way a packet goes, seen from the router.
#[derive(Clone, Copy)]
enum Way {
    /// From a device of the LAN, with its hardware address.
    In(Option<Mac>),
    /// To a device of the LAN.
    Out,
}

/// Calls `each` with what `message` asks or answers, its flow as the client sees it.
fn with_question<T>(
    message: &Message<'_>,
    (key, direction): (FlowKey, Direction),
    each: impl FnOnce(&Asked<'_>) -> T,
) -> Option<T> {
    let question = message.question().filter(|question| question.class == CLASS_IN)?;
    let towards = if message.is_response() { direction.reversed() } else { direction };
    Some(each(&Asked {
        client: key.source(towards),
        server: key.destination(towards),
        transport: key.proto(),
        id: message.id(),
        name: &question.name.to_string(),
        kind: question.kind,
    }))
}

/// Learns from an answer. Says whether anybody had asked.
fn learn(
    now_ms: u64,
    found: &Found<'_>,
    response: &Message<'_>,
    questions: &mut Questions,
    known: &mut Names,
) -> bool {
    let key = (found.key, found.direction);
    let asked = with_question(response, key, |asked| {
        Some((questions.answer(now_ms, asked)?, asked.client.0, asked.name.to_owned()))
    });
    let Some((answered, client, name)) = asked.flatten() else { return false };
    if response.rcode() != 0 {
        return true;
    }
    let who = (client, answered.mac);
    if response.question().is_some_and(|question| question.name.is_host()) {
        response.addresses(|address| {
            // What block lists answer leads nowhere.
            if !address.is_unspecified() {
                known.learn(now_ms, who, address.into(), &name, Source::Dns);
            }
        });
        response.reverse(|address, name| {
            if name.is_host() {
                known.learn(now_ms, who, address.into(), &name.to_string(), Source::Ptr);
            }
        });
    }
    true
}

impl Inspector {
    /// What DNS said about the other end of a flow.
    pub(super) fn learned(
        &self,
        now_ns: u64,
        ends: Option<&Ends>,
        (key, original): (&FlowKey, Direction),
    ) -> Option<table::Learned> {
        self.resolutions.name(now_ns / 1_000_000, ends?, key.source(original).0)
    }
}

impl State {
    /// Listens on the devices that the interfaces of the LAN are now.
    pub(super) fn look_at_resolutions(&mut self) {
        let zones = self.inspector.zones.iter().filter(|(_, zone)| zone.is_lan);
        let lan: Vec<_> = zones.map(|(ifindex, zone)| (*ifindex, zone.number)).collect();
        let max = if self.plan.enabled { self.plan.names } else { 0 };
        self.inspector.resolutions.listen(max, &lan);
    }

    /// How names are found out.
    pub(super) fn names_feature(&self) -> Feature {
        let resolutions = &self.inspector.resolutions;
        let name = |number: u8| {
            let plan = self.plan.dataplane.interfaces.get(usize::from(number));
            plan.map(|plan| plan.name.as_str()).unwrap_or_default()
        };
        let deaf = resolutions.deaf.iter();
        let mut reasons: Vec<String> = deaf
            .map(|(number, why)| format!("packet socket on {}: {why}", name(*number)))
            .collect();
        let has_queue = self.backend.is_some();
        let (state, rung) = match (resolutions.ears.is_empty(), reasons.is_empty()) {
            _ if resolutions.known.max() == 0 => {
                reasons.push("option dns_names is 0".to_owned());
                (Health::Off, "none")
            }
            (false, true) => (Health::Active, "packet sockets"),
            (false, false) => (Health::Degraded, "packet sockets, not everywhere"),
            (true, false) if has_queue => (Health::Degraded, "queue: forwarded DNS alone"),
            (true, false) => (Health::Failed, "none"),
            (true, true) => {
                reasons.push("no device of the LAN is there".to_owned());
                (Health::Off, "none")
            }
        };
        Feature { name: "names from DNS".to_owned(), state, rung: rung.to_owned(), reasons }
    }
}

impl Running {
    /// Follows what the devices of the LAN ask and are told.
    pub(super) async fn follow_names(&self) -> super::running::Next {
        let news = self.state.borrow().inspector.resolutions.news.1.clone();
        loop {
            let ready =
                poll_fn(|context| self.state.borrow().inspector.resolutions.poll_readable(context));
            future::or(ready, async {
                if news.recv().await.is_err() {
                    future::pending::<()>().await;
                }
            })
            .await;
            let now_ms = clock::monotonic_ns() / 1_000_000;
            self.state.borrow_mut().inspector.resolutions.hear(now_ms);
            future::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inspect::dns::kind;
    use crate::inspect::dns::tests::Pen;

    const MAC: Option<Mac> = Some(Mac([2, 0, 0, 0, 0, 1]));
    const LAN: Option<Zone> = Some(Zone { number: 1, is_lan: true });
    const WAN: Option<Zone> = Some(Zone { number: 0, is_lan: false });
    const ASKS: Path = Path { mac: MAC, from: LAN, to: WAN };
    const ANSWERS: Path = Path { mac: None, from: WAN, to: LAN };

    fn udp((from, to): (&str, &str), message: &[u8]) -> Vec<u8> {
        let [from, to] = [from, to].map(|text| text.parse::<std::net::SocketAddrV4>().unwrap());
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
        packet.extend(from.ip().octets());
        packet.extend(to.ip().octets());
        for word in [from.port(), to.port(), message.len() as u16 + 8, 0] {
            packet.extend(word.to_be_bytes());
        }
        packet.extend(message);
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn question(name: &str, kind: u16) -> Vec<u8> {
        Pen::new(0x0100, 1, 0).question(name, kind).0
    }

    fn name(resolutions: &Resolutions, device: &str, peer: &str) -> Option<(String, &'static str)> {
        let addr = |text: &str| text.parse::<std::net::IpAddr>().unwrap().into();
        let (device, peer): (Addr, Addr) = (addr(device), addr(peer));
        let (key, direction) = FlowKey::new(device, peer, 1_u16.to_be(), 443_u16.to_be(), 6);
        let ends = Ends::new(&key, direction, direction, &ASKS);
        assert_eq!(resolutions.name(1, &ends, peer), None, "a flow that the other end opened");
        let learned = resolutions.name(1, &ends, device)?;
        Some((learned.name.into(), learned.source))
    }

    const CLIENT: &str = "192.168.1.7:40000";
    const RESOLVER: &str = "192.0.2.53:53";

    /// Where no packet socket is, the queue shows forwarded DNS; a name of an address is one too.
    #[test]
    fn the_queue_shows_what_is_forwarded_where_there_is_no_socket() {
        let mut all = Resolutions::new(64, [1, 2]);
        let queued = |resolutions: &mut Resolutions, ends, message: &[u8], path: &Path| {
            let packet = udp(ends, message);
            resolutions.queued(1, &packet, packet.len(), path);
        };
        let answer = Pen::new(0x8180, 1, 1).question("a.test", kind::A);
        let answer = answer.record("", kind::A, &[192, 0, 2, 9]).0;
        for is_deaf in [false, true] {
            all.deaf = if is_deaf { vec![(1, String::new())] } else { Vec::new() };
            queued(&mut all, (CLIENT, RESOLVER), &question("a.test", kind::A), &ASKS);
            queued(&mut all, (RESOLVER, CLIENT), &answer, &ANSWERS);
            let expected = is_deaf.then(|| ("a.test".to_owned(), "dns"));
            assert_eq!(name(&all, "192.168.1.7", "192.0.2.9"), expected);
        }
        assert_eq!(name(&all, "192.168.1.8", "192.0.2.9"), None);
        let reverse = "8.2.0.192.in-addr.arpa";
        let answer = Pen::new(0x8180, 1, 1).question(reverse, kind::PTR);
        let answer = answer.record("", kind::PTR, &Pen::default().name("host.test").0).0;
        queued(&mut all, (CLIENT, RESOLVER), &question(reverse, kind::PTR), &ASKS);
        queued(&mut all, (RESOLVER, CLIENT), &answer, &ANSWERS);
        assert_eq!(name(&all, "192.168.1.7", "192.0.2.8"), Some(("host.test".to_owned(), "ptr")));
        assert_eq!((all.report().questions, all.report().answers), (2, 2));
    }

    /// No answer counts on its way in, or for a question on its way out, or with an error.
    #[test]
    fn a_question_counts_on_its_way_in_and_an_answer_on_its_way_out() {
        let answer = |flags| {
            let pen = Pen::new(flags, 1, 2).question("a.test", kind::A);
            pen.record("", kind::A, &[192, 0, 2, 9]).record("", kind::A, &[0, 0, 0, 0]).0
        };
        for (asks, answers, flags, expected) in [
            (Way::In(MAC), Way::Out, 0x8180, 1),
            (Way::In(MAC), Way::In(MAC), 0x8180, 0),
            (Way::Out, Way::Out, 0x8180, 0),
            (Way::In(MAC), Way::Out, 0x8183, 0),
        ] {
            let mut all = Resolutions::new(64, [1, 2]);
            let (asked, answered) = (
                udp((CLIENT, RESOLVER), &question("A.test", kind::A)),
                udp((RESOLVER, CLIENT), &answer(flags)),
            );
            all.take(0, &asked, asked.len(), asks);
            all.take(1, &answered, answered.len(), answers);
            assert_eq!(all.report().entries, expected);
        }
    }
}
