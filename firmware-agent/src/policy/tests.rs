use std::net::IpAddr;
use std::sync::Arc;

use super::grammar::parse;
use super::*;
use crate::config::{Apps, Countries, Fingerprint, Group, Mac, Rule, Schedule};

/// Numbers that look drawn and are the same every time.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

const JA4: &str = "t13d1516h2_8daaf6152771_e5627efa2ab1";
const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 1]);

fn addr(text: &str) -> Addr {
    text.parse::<IpAddr>().unwrap().into()
}

fn rules(texts: &[&str]) -> Vec<Rule> {
    texts.iter().map(|text| parse("r", text).unwrap()).collect()
}

/// 198.51.100.0/24 is somewhere, all around it elsewhere.
fn countries() -> Arc<Countries> {
    let net = |text: &str, country| (text.parse().unwrap(), country);
    let nets = vec![net("198.51.0.0/16", 0), net("198.51.100.0/24", 1)];
    Arc::new(Countries::new(vec!["aa".to_owned(), "bb".to_owned()], nets))
}

fn policy(texts: &[&str]) -> Policy {
    let groups =
        [Group { name: "children".to_owned(), devices: vec!["192.0.2.7".parse().unwrap()] }];
    let all = Schedule {
        name: "night".to_owned(),
        days: 127,
        slots: vec!["22:00-07:00".parse().unwrap()],
    };
    let around = Surroundings {
        zones: vec!["wan", "lan"],
        groups: &groups,
        schedules: &[all],
        apps: &Apps::read("video: example.com\nbooks: read.example.com\nfilms: a.test").unwrap(),
        countries: &countries(),
        time_zone: TimeZone::UTC,
    };
    Policy::new(&rules(texts), &around)
}

/// A flow from 192.0.2.7 behind interface 1 to 198.51.100.1:443 over TCP.
fn facts(seen: Option<Seen<'_>>) -> Facts<'_> {
    let ends = Ends {
        device: addr("192.0.2.7"),
        mac: Some(MAC),
        zone: Some(1),
        peer: addr("198.51.100.1"),
        port: 443,
        transport: 6,
    };
    Facts { ends, seen }
}

fn named<'a>(names: &'a [&'a str]) -> Facts<'a> {
    facts(Some(Seen { names, ..Seen::default() }))
}

fn judged(policy: &Policy, facts: &Facts<'_>) -> Judgement {
    match policy.decide(facts) {
        Answer::Final(judgement) => judgement,
        Answer::Open => panic!("it is open"),
    }
}

/// Number of the rule and text of the entry that decide.
fn decided(policy: &Policy, facts: &Facts<'_>) -> Option<(u32, String)> {
    let found = judged(policy, facts).decides?;
    Some((found.rule, policy.text(found.entry)))
}

#[test]
fn a_rule_covers_its_domain_and_what_is_below_it_and_nothing_else() {
    let policy = policy(&["block domain example.com"]);
    for name in ["example.com", "www.example.com", "a.b.c.example.com"] {
        assert_eq!(decided(&policy, &named(&[name])), Some((0, "example.com".to_owned())));
    }
    for name in
        ["notexample.com", "example.com.evil.net", "com", "example.co", "xample.com", "", "."]
    {
        assert_eq!(decided(&policy, &named(&[name])), None, "{name}");
    }
}

/// R171: what pauses comes before every other rule, and waits for none.
#[test]
fn a_pause_precedes_every_other_rule() {
    let policy = policy(&[
        "allow domain bank.test for device 02:00:5e:10:00:01",
        "allow ip 198.51.100.1 for device 192.0.2.7",
        "pause any for group children",
        "block domain bank.test",
    ]);
    assert_eq!(decided(&policy, &facts(None)), Some((2, "any".to_owned())));
    assert_eq!(decided(&policy, &named(&["bank.test"])), Some((2, "any".to_owned())));
    assert!(policy.holds_any(RuleAction::Pause) && !policy.holds_any(RuleAction::Limit));
}

/// R42: a class covers its domains and what is below them, and the longest domain counts.
#[test]
fn a_class_covers_its_domains_to_a_dot_and_the_longest_counts() {
    let both = policy(&["block app video", "block app books"]);
    for (name, class) in [
        ("example.com", Some("video")),
        ("www.example.com.", Some("video")),
        ("read.example.com", Some("books")),
        ("x.read.example.com", Some("books")),
        ("thread.example.com", Some("video")),
        ("notexample.com", None),
        ("example.com.test", None),
        ("com", None),
        ("", None),
    ] {
        assert_eq!(both.app(name), class, "{name}");
        let rule = decided(&both, &named(&[name])).map(|(_, entry)| entry);
        assert_eq!(rule, class.map(|class| format!("app {class}")), "{name}");
    }
    // It waits for the name.
    let mixed = policy(&["allow app video", "block port 443"]);
    assert_eq!(mixed.decide(&facts(None)), Answer::Open);
}

/// Every kind of target, what it fits and what it does not.
#[test]
fn each_target_fits_what_it_names() {
    let ja4 = [Fingerprint::ja4(JA4).unwrap()];
    let full = Seen { names: &["a.test"], fingerprints: &ja4, protocol: Some("tls") };
    for (text, is_fit, entry) in [
        ("block domain a.test", true, "a.test"),
        ("block domain b.test", false, ""),
        ("block ip 198.51.100.0/24", true, "198.51.100.0/24"),
        ("block country bb", true, "country bb"),
        ("block country cc,bb", true, "country bb"),
        ("block country aa", false, ""),
        ("block country bb ip 203.0.113.1", false, ""),
        ("block ip 198.51.100.1", true, "198.51.100.1"),
        ("block ip 198.51.101.0/24", false, ""),
        ("block ip 192.0.2.7", false, ""),
        ("block port 443", true, "port 443"),
        ("block port udp/443", false, ""),
        ("block port 400-500,443", true, "port 443"),
        ("block ja4 t13d1516h2_8daaf6152771_e5627efa2ab1", true, JA4),
        ("block ja4 t13d1516h2_8daaf6152771_e5627efa2ab2", false, ""),
        ("block protocol quic,tls", true, "protocol tls"),
        ("block protocol quic", false, ""),
        ("block domain a.test port 443", true, "a.test"),
        ("block domain a.test port 444", false, ""),
        ("block domain b.test ip 198.51.100.1", false, ""),
        ("block domain a.test ip 198.51.100.2", false, ""),
        ("block any for device 192.0.2.7", true, "any"),
        ("block any for device 192.0.2.8", false, ""),
        ("block any for device 02:00:5e:10:00:01", true, "any"),
        ("block any for device 02:00:5e:10:00:02", false, ""),
        ("block any for group children", true, "any"),
        ("block any for group others", false, ""),
        ("block any for zone lan", true, "any"),
        ("block any for zone wan", false, ""),
        ("block port 443 for device 192.0.2.8 zone lan", true, "port 443"),
        ("block app films port 443", true, "app films"),
        ("block app video,films", true, "app films"),
        ("block app films port 444", false, ""),
        ("block app video", false, ""),
        ("block app unheard", false, ""),
    ] {
        let found = decided(&policy(&[text]), &facts(Some(full)));
        assert_eq!(found, is_fit.then(|| (0, entry.to_owned())), "{text}");
    }
}

/// The order of the module's documentation, each rule against the one that follows.
#[test]
fn the_most_particular_rule_counts() {
    let ja4 = [Fingerprint::ja4(JA4).unwrap()];
    let full = Seen { names: &["x.a.test"], fingerprints: &ja4, protocol: Some("tls") };
    let order = [
        "block domain x.a.test for device 192.0.2.7",
        "allow port 443 for device 192.0.2.7",
        "block port 443 for device 192.0.2.7",
        "block domain a.test for group children",
        "block domain a.test for zone lan",
        "allow domain x.a.test",
        "block domain x.a.test",
        "allow domain a.test",
        "limit domain a.test at 9",
        "block app films",
        "block ja4 t13d1516h2_8daaf6152771_e5627efa2ab1",
        "block ip 198.51.100.1",
        "block ip 198.51.100.0/25",
        "block ip 198.51.100.0/24",
        "allow port 443",
        "limit port 443 at 9",
        "block port 443",
        "block port 400-500",
        "block protocol tls",
        "block any for device 192.0.2.9 zone wan",
    ];
    let facts = facts(Some(full));
    for (index, pair) in order.windows(2).enumerate() {
        let [first, second] = pair else { continue };
        for texts in [[*first, *second], [*second, *first]] {
            let same_rank = first.replace("limit", "block").replace(" at 9", "") == *second;
            let expected = if same_rank { texts[0] } else { first };
            let (rule, _) = decided(&policy(&texts), &facts).unwrap();
            assert_eq!(texts[rule as usize], expected, "{index}");
        }
    }
}

/// R173: a rule that observes changes nothing, and is told where it would have counted.
#[test]
fn a_rule_that_observes_is_told_and_decides_nothing() {
    let facts = named(&["ads.test"]);
    let found = judged(&policy(&["observe domain ads.test"]), &facts);
    assert_eq!(found.decides, None);
    assert_eq!(found.observes.unwrap().action, RuleAction::Observe);
    let found = judged(&policy(&["block domain test", "observe domain ads.test"]), &facts);
    assert_eq!((found.decides.unwrap().rule, found.observes.unwrap().rule), (0, 1));
    // Where another rule counts first, it would not have blocked.
    let found = judged(&policy(&["allow domain ads.test", "observe domain test"]), &facts);
    assert_eq!((found.decides.unwrap().rule, found.observes), (0, None));
}

/// What needs no payload is decided by the first packet, unless a rule above it waits.
#[test]
fn a_first_packet_decides_when_nothing_above_waits() {
    let first = facts(None);
    for (texts, expected) in [
        (&["block port 443"][..], Some(0)),
        (&["block port 444"], None),
        (&[], None),
        (&["block port 443", "block domain a.test"], None),
        (&["block port 443", "block protocol tls"], Some(0)),
        (&["block port 400-450", "block protocol tls port 443"], None),
        (&["allow port 443", "block domain a.test"], None),
        (&["block any for device 192.0.2.7", "allow domain a.test"], Some(0)),
        (&["block any for device 192.0.2.7", "allow domain a.test for zone lan"], Some(0)),
        (&["block any for device 192.0.2.7", "allow domain a.test for device 192.0.2.8"], Some(0)),
        (&["block any for device 192.0.2.7", "allow domain a.test for device 192.0.2.7"], None),
        (&["block ip 198.51.100.1", "observe ja4 t13d1516h2_8daaf6152771_e5627efa2ab1"], None),
        (&["observe port 443"], None),
        (&["block port 443", "block domain a.test when night"], Some(0)),
    ] {
        let found = match policy(texts).decide(&first) {
            Answer::Final(judgement) => judgement.decides.map(|found| found.rule),
            Answer::Open => None,
        };
        assert_eq!(found, expected, "{texts:?}");
    }
}

/// R43: what waits for a server's answer, and for whose flows; what comes first does not.
#[test]
fn a_flow_waits_for_an_answer_that_could_count_for_it() {
    const JA3S: &str = "ec74a5c51106f0419184d0dd08fb05bc";
    let rule = |text: &str| text.replace("JA3S", &format!("ja3s {JA3S}"));
    let hello = named(&["x.a.test"]);
    let hello = facts(hello.seen.map(|seen| Seen { protocol: Some("tls"), ..seen }));
    for (texts, waits, waits_blocked) in [
        (&["block JA3S"][..], true, false),
        (&["observe JA3S"], true, false),
        (&["reject certificate a9993e364706816aba3e25717850c26c9cd0d89d"], true, false),
        (&["allow JA3S"], true, true),
        (&["block domain a.test JA3S"], true, false),
        (&["block domain b.test JA3S"], false, false),
        (&["block JA3S port 444"], false, false),
        (&["block JA3S protocol quic"], false, false),
        (&["block JA3S for device 192.0.2.8"], false, false),
        (&["block JA3S for device 192.0.2.7"], true, false),
        (&["block JA3S ip 198.51.100.1"], true, false),
        (&["block JA3S ip 198.51.100.2"], false, false),
        (&["block JA3S when night"], false, false),
        // A name is more particular, an address less.
        (&["block JA3S", "allow domain a.test"], false, false),
        (&["allow JA3S", "block domain a.test"], false, false),
        (&["block JA3S", "allow ip 198.51.100.1"], true, false),
        (&["block JA3S for device 192.0.2.7", "allow domain a.test"], true, false),
        (&["block ja3 00000000000000000000000000000000"], false, false),
    ] {
        let texts: Vec<String> = texts.iter().map(|text| rule(text)).collect();
        let policy = policy(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        let waiting = [policy.awaits_answer(&hello, false), policy.awaits_answer(&hello, true)];
        assert_eq!(waiting, [waits, waits_blocked], "{texts:?}");
    }
    // Before any payload it keeps flows of TCP waiting, others have no such answer.
    let both = policy(&[&rule("block JA3S"), "allow port 443"]);
    let mut first = facts(None);
    assert_eq!(both.decide(&first), Answer::Open);
    first.ends.transport = 17;
    assert!(matches!(both.decide(&first), Answer::Final(_)));
}

/// JA3S and certificate are conditions of their own beside those of the client.
#[test]
fn fingerprints_of_both_sides_hold_together() {
    let (md5, sha1) =
        ("ec74a5c51106f0419184d0dd08fb05bc", "a9993e364706816aba3e25717850c26c9cd0d89d");
    let all = [
        Fingerprint::ja4(JA4).unwrap(),
        Fingerprint::ja3s(md5).unwrap(),
        Fingerprint::certificate(sha1).unwrap(),
    ];
    let text = format!("block ja4 {JA4} ja3s {md5} certificate {sha1}");
    for (count, fits) in [(1, false), (2, false), (3, true)] {
        let seen = Seen { fingerprints: &all[..count], ..Seen::default() };
        assert_eq!(decided(&policy(&[&text]), &facts(Some(seen))).is_some(), fits, "{count}");
    }
    let seen = Seen { fingerprints: &all, ..Seen::default() };
    let found = decided(&policy(&[&format!("block certificate {sha1}")]), &facts(Some(seen)));
    assert_eq!(found, Some((0, sha1.to_owned())));
    // The hash of one kind is none of another.
    assert_eq!(decided(&policy(&[&format!("block ja3 {md5}")]), &facts(Some(seen))), None);
}

/// R170: rules follow their schedules and ends, and stay as they are while the time is not known.
#[test]
fn rules_hold_while_their_time_does() {
    let at = |text: &str| text.parse::<Moment>().unwrap().0;
    let mut night = policy(&["block domain a.test when night"]);
    let holds = |policy: &Policy| decided(policy, &named(&["a.test"])).is_some();
    assert!(!holds(&night) && !night.update(None));
    assert!(night.update(Some(at("2026-11-21T22:00:00Z"))) && holds(&night));
    assert!(!night.update(None) && holds(&night), "nobody knows the time, and it stays");
    let mut next = policy(&["block domain a.test when night", "block port 1"]);
    next.inherit(&night);
    assert!(holds(&next));
    assert!(next.update(Some(at("2026-11-22T07:00:00Z"))) && !holds(&next));
    assert!(!next.update(Some(at("2026-11-22T12:00:00Z"))));

    let mut pause = policy(&["block any for device 192.0.2.7 until 2026-11-21T20:00:00Z"]);
    assert!(pause.is_in_force(0));
    assert!(!pause.update(Some(at("2026-11-21T19:59:59Z"))) && pause.is_in_force(0));
    assert!(pause.update(Some(at("2026-11-21T20:00:00Z"))) && !pause.is_in_force(0));
    assert!(pause.update(Some(at("2026-01-01T00:00:00Z"))) && pause.is_in_force(0));
    // A rule that is off does not keep others waiting.
    let mut both = policy(&["block port 443", "allow domain a.test when night"]);
    assert!(matches!(both.decide(&facts(None)), Answer::Final(_)));
    both.update(Some(at("2026-11-21T22:00:00Z")));
    assert_eq!(both.decide(&facts(None)), Answer::Open);
}

/// The choice among rules by trying each of them, as the documentation of the module says it.
fn naive(texts: &[String], facts: &Facts<'_>) -> Option<usize> {
    let seen = facts.seen.unwrap();
    let order = |rule: &Rule, number: usize| {
        let host = crate::config::Net::new(facts.ends.peer, 128);
        let covers = |domain: &String| {
            seen.names.iter().any(|name| *name == domain || name.ends_with(&format!(".{domain}")))
        };
        let domain = rule.domains.iter().filter(|domain| covers(domain)).map(String::len).max();
        let net = rule
            .nets
            .iter()
            .filter(|net| net.contains(&host))
            .map(|net| if net.is_host() { (4, 0) } else { (3, usize::from(net.prefix())) });
        let net = net.max();
        let ports =
            rule.ports.iter().filter(|ports| ports.contain(facts.ends.transport, facts.ends.port));
        let ports = ports.map(|ports| usize::from(ports.first == ports.last)).max();
        let device = crate::config::Net::new(facts.ends.device, 128);
        let is_device = rule.devices.iter().any(|known| match known {
            crate::config::Device::Net(net) => net.contains(&device),
            crate::config::Device::Mac(mac) => Some(*mac) == facts.ends.mac,
        });
        if (domain.is_none() && !rule.domains.is_empty())
            || (net.is_none() && !rule.nets.is_empty())
            || (ports.is_none() && !rule.ports.is_empty())
            || (!is_device && !rule.devices.is_empty())
        {
            return None;
        }
        let target =
            domain.map(|len| (7, len)).or(net).or(ports.map(|len| (2, len))).unwrap_or_default();
        let is_allow = rule.action == RuleAction::Allow;
        Some((is_device, target, is_allow, std::cmp::Reverse(number)))
    };
    let rules = rules(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let best = rules.iter().enumerate().filter_map(|(number, rule)| order(rule, number)).max();
    best.map(|(.., std::cmp::Reverse(number))| number)
}

#[test]
fn the_choice_agrees_with_trying_every_rule() {
    let mut random = Random(3);
    let mut found = 0;
    for round in 0..400 {
        let texts: Vec<String> = (0..12)
            .map(|_| {
                let mut text = ["allow", "block"][random.below(2) as usize].to_owned();
                if random.below(2) == 0 {
                    let domains = ["test", "a.test", "b.a.test", "b.test"];
                    text = text + " domain " + domains[random.below(4) as usize];
                }
                if random.below(3) == 0 {
                    let nets =
                        ["198.51.100.1", "198.51.100.0/24", "198.51.0.0/16", "2001:db8::/32"];
                    text = text + " ip " + nets[random.below(4) as usize];
                }
                let ports = ["", "", "", " port 443", " port 400-500", " port tcp/80"];
                text += ports[random.below(6) as usize];
                let other = " for device 192.0.2.8,02:00:5e:10:00:09";
                text += ["", "", " for device 192.0.2.7", other][random.below(4) as usize];
                if text.split(' ').count() == 1 { text + " port 443" } else { text }
            })
            .collect();
        let policy = policy(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        for names in [&["b.a.test"][..], &["a.test"], &["x.b.test", "a.test"], &[]] {
            let facts = named(names);
            let expected = naive(&texts, &facts);
            let rule = decided(&policy, &facts).map(|(rule, _)| rule as usize);
            assert_eq!(rule, expected, "{round} {names:?} {texts:#?}");
            found += usize::from(rule.is_some());
            // What the first packet decides is what everything that is known later decides.
            if let Answer::Final(early) = policy.decide(&Facts { seen: None, ..facts }) {
                assert_eq!(
                    early.decides.map(|found| found.rule as usize),
                    rule,
                    "{round} {texts:#?}"
                );
            }
        }
    }
    assert!(found > 1000, "{found}");
}

/// The sum of the documentation of [`Policy`], for ten thousand rules.
#[test]
fn memory_is_what_the_documentation_says() {
    let domains: Vec<_> =
        (0..10_000).map(|n| (format!("host{n}.example.com"), RuleAction::Block, n)).collect();
    let text: usize = domains.iter().map(|(domain, ..)| domain.len()).sum();
    let memory = of_domains(domains).memory();
    let stated = text + 10_000 * (12 + Policy::RULE_SIZE);
    assert!((stated..stated + 1000).contains(&memory), "{memory} of {stated}");
    const { assert!(Policy::RULE_SIZE <= 80) };
}
