//! A rule as a line of text: what commands and other programs write.
//!
//! ```text
//! rule   = action { kind values } [ "any" ] [ "for" who ] [ "when" values ] [ "until" time ]
//!          [ "at" kbit ] [ "burst" kib ] [ "profile" name ]
//! action = "allow" | "block" | "reject" | "limit" | "mark" | "observe"
//! kind   = "domain" | "app" | "ip" | "country" | "port" | "ja3" | "ja4" | "fingerprints"
//!        | "ja3s" | "ja3s_file" | "certificate" | "certificate_file" | "protocol"
//! who    = "everyone" | { ( "device" | "group" | "zone" ) values }
//! values = value { "," value }
//! ```
//!
//! Words are separated by blanks; no value has a blank or a comma, so every word behind a kind is
//! its values, whatever it looks like. A rule reads the same in `config rule`, where each kind is an
//! option; whether it is enabled and its name are not part of the text.

use std::fmt::{Display, Write as _};
use std::path::PathBuf;

use sluice_abi::flow::FlowLimit;

use crate::config::{Fingerprint, PROTOCOLS, Rule, RuleAction, code, domain, is_name};

/// Longest text that is read.
pub const LEN_MAX: usize = 4096;

/// Reads the text of a rule; the rule is enabled and has this name.
pub fn parse(name: &str, text: &str) -> Result<Rule, String> {
    if text.len() > LEN_MAX {
        return Err(format!("has more than {LEN_MAX} characters"));
    }
    let mut words = text.split_ascii_whitespace();
    let action = words.next().unwrap_or_default();
    let action = RuleAction::ALL.into_iter().find(|known| known.name() == action);
    let action =
        action.ok_or("does not begin with allow, block, reject, limit, mark or observe")?;
    let mut rule = Rule { name: name.to_owned(), enabled: true, action, ..Rule::default() };
    let (mut is_any, mut has_for, mut is_everyone) = (false, false, false);
    while let Some(word) = words.next() {
        match word {
            "any" if !has_for => is_any = true,
            "for" if !has_for => has_for = true,
            "everyone" if has_for => is_everyone = true,
            "device" | "group" | "zone" if !has_for => {
                return Err(format!("{word} stands before for"));
            }
            word => {
                let values = words.next().ok_or_else(|| format!("nothing follows {word}"))?;
                condition(&mut rule, word, values)?;
            }
        }
    }
    if is_any && rule.has_target() {
        return Err("any stands beside another target".to_owned());
    }
    if has_for && is_everyone == rule.has_who() {
        return Err("for is followed by everyone, or by device, group or zone".to_owned());
    }
    if !rule.is_complete() {
        return Err("names nothing: it would concern everything of everyone".to_owned());
    }
    if rule.action == RuleAction::Limit && rule.kbit == 0 && rule.profile.is_none() {
        return Err("limit needs a rate (at) or a profile".to_owned());
    }
    if rule.action == RuleAction::Mark && rule.profile.is_none() {
        return Err("mark needs a profile".to_owned());
    }
    Ok(rule)
}

/// Adds the values behind a word.
fn condition(rule: &mut Rule, word: &str, values: &str) -> Result<(), String> {
    fn each<T>(
        to: &mut Vec<T>,
        values: &str,
        read: impl Fn(&str) -> Result<T, &'static str>,
    ) -> Result<(), String> {
        for value in values.split(',') {
            to.push(read(value).map_err(|why| format!("'{}' {why}", value.escape_debug()))?);
        }
        Ok(())
    }
    let section = |text: &str| {
        let fits = is_name(text) || text.starts_with('@');
        if fits { Ok(text.to_owned()) } else { Err("is not the name of a section") }
    };
    let number = |text: &str, most: u32| {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        let number = if is_number { text.parse::<u32>().ok() } else { None };
        number
            .filter(|number| *number <= most)
            .ok_or_else(|| format!("'{}' is not 0 to {most}", text.escape_debug()))
    };
    let file = |text: &str| {
        let fits = text.starts_with('/') && !text.split('/').any(|part| part == "..");
        if fits { Ok(PathBuf::from(text)) } else { Err("is not an absolute path") }
    };
    match word {
        "domain" => each(&mut rule.domains, values, domain),
        "app" => each(&mut rule.apps, values, |text| {
            if is_name(text) { Ok(text.to_owned()) } else { Err("is not the name of a class") }
        }),
        "ip" => each(&mut rule.nets, values, |text| {
            text.parse().ok().ok_or("is not an address or prefix")
        }),
        "country" => each(&mut rule.countries, values, code),
        "port" => each(&mut rule.ports, values, str::parse),
        "ja3" => each(&mut rule.fingerprints, values, Fingerprint::ja3),
        "ja4" => each(&mut rule.fingerprints, values, Fingerprint::ja4),
        "ja3s" => each(&mut rule.fingerprints, values, Fingerprint::ja3s),
        "certificate" => each(&mut rule.fingerprints, values, Fingerprint::certificate),
        "fingerprints" => each(&mut rule.fingerprint_files, values, file),
        "ja3s_file" => each(&mut rule.ja3s_files, values, file),
        "certificate_file" => each(&mut rule.certificate_files, values, file),
        "protocol" => each(&mut rule.protocols, values, |text| {
            let is_known = PROTOCOLS.contains(&text);
            if is_known { Ok(text.to_owned()) } else { Err("is not a protocol") }
        }),
        "device" => each(&mut rule.devices, values, str::parse),
        "group" => each(&mut rule.groups, values, section),
        "zone" => each(&mut rule.zones, values, section),
        "when" => each(&mut rule.schedules, values, section),
        "until" => {
            rule.until =
                Some(values.parse().map_err(|why| format!("'{}' {why}", values.escape_debug()))?);
            Ok(())
        }
        "at" => number(values, FlowLimit::KBIT_MAX).map(|kbit| rule.kbit = kbit),
        "burst" => number(values, FlowLimit::BURST_MAX / 8192).map(|kib| rule.burst_kib = kib),
        "profile" => section(values).map(|name| rule.profile = Some(name)).map_err(str::to_owned),
        word => Err(format!("'{}' is not a word of rules", word.escape_debug())),
    }
}

/// The text of a rule. Reading it gives the same rule.
#[must_use]
pub fn print(rule: &Rule) -> String {
    fn put<T: Display>(text: &mut String, word: &str, values: impl IntoIterator<Item = T>) {
        let mut separator = format!(" {word} ");
        for value in values {
            let _ = write!(text, "{separator}{value}");
            ",".clone_into(&mut separator);
        }
    }
    let mut text = rule.action.name().to_owned();
    put(&mut text, "domain", &rule.domains);
    put(&mut text, "app", &rule.apps);
    put(&mut text, "ip", &rule.nets);
    put(&mut text, "country", &rule.countries);
    put(&mut text, "port", &rule.ports);
    let fingerprints = |word| rule.fingerprints.iter().filter(move |one| word_of(one) == word);
    put(&mut text, "ja3", fingerprints("ja3"));
    put(&mut text, "ja4", fingerprints("ja4"));
    put(&mut text, "fingerprints", rule.fingerprint_files.iter().map(|file| file.display()));
    put(&mut text, "ja3s", fingerprints("ja3s"));
    put(&mut text, "ja3s_file", rule.ja3s_files.iter().map(|file| file.display()));
    put(&mut text, "certificate", fingerprints("certificate"));
    put(&mut text, "certificate_file", rule.certificate_files.iter().map(|file| file.display()));
    put(&mut text, "protocol", &rule.protocols);
    if !rule.has_target() {
        text.push_str(" any");
    }
    if rule.has_who() {
        text.push_str(" for");
        put(&mut text, "device", &rule.devices);
        put(&mut text, "group", &rule.groups);
        put(&mut text, "zone", &rule.zones);
    }
    put(&mut text, "when", &rule.schedules);
    put(&mut text, "until", &rule.until);
    put(&mut text, "at", (rule.kbit != 0).then_some(rule.kbit));
    put(&mut text, "burst", (rule.burst_kib != 0).then_some(rule.burst_kib));
    put(&mut text, "profile", &rule.profile);
    text
}

/// The word before fingerprints of a kind, and their option.
const fn word_of(fingerprint: &Fingerprint) -> &'static str {
    match fingerprint {
        Fingerprint::Ja3(_) => "ja3",
        Fingerprint::Ja4(_) => "ja4",
        Fingerprint::Ja3s(_) => "ja3s",
        Fingerprint::Certificate(_) => "certificate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_abi::flow::Addr;

    use crate::config::{Config, Device, Mac, Moment, Net, Ports};
    use crate::policy::tests::Random;

    #[test]
    fn rules_read_as_they_are_written() {
        let text = "block domain ads.example.com,x.test port tcp/443 for device \
                    02:00:5e:10:00:01,192.0.2.0/24 group children when bedtime until \
                    2026-11-21T20:00:00Z";
        let rule = parse("r", text).unwrap();
        assert_eq!(rule.domains, ["ads.example.com", "x.test"]);
        assert_eq!((rule.devices.len(), &*rule.groups), (2, &["children".to_owned()][..]));
        assert_eq!(print(&rule), text);
        // A word behind a kind is a value, whatever it looks like.
        let odd = "allow domain for,port port 1 for everyone";
        assert_eq!(parse("r", odd).unwrap().domains, ["for", "port"]);
        assert_eq!(print(&parse("r", odd).unwrap()), "allow domain for,port port 1");
        assert_eq!(print(&parse("r", "block any for zone lan").unwrap()), "block any for zone lan");
        for (text, why) in [
            ("", "begin"),
            ("deny domain a.test", "begin"),
            ("block", "nothing"),
            ("block any", "everything"),
            ("block any for everyone", "everything"),
            ("block any port 1", "beside"),
            ("block port", "follows port"),
            ("block port 1,", "'' is not a port"),
            ("block port 1 for", "followed by"),
            ("block port 1 for everyone device 192.0.2.1", "followed by"),
            ("block port 1 device 192.0.2.1", "before for"),
            ("block port 1 when bed time", "follows time"),
            ("block colour red", "not a word"),
            ("block app a.b", "name of a class"),
            ("limit port 1", "rate"),
            ("mark port 1 at 5", "needs a profile"),
            ("limit port 1 at 1000001", "is not 0 to"),
            ("block domain *.a.test", "wildcard"),
            ("block fingerprints /etc/../x", "absolute"),
            ("block protocol gopher", "protocol"),
            ("block country deu", "two letters"),
            ("block port 1 until tomorrow", "is not a time"),
        ] {
            assert!(parse("r", text).is_err_and(|found| found.contains(why)), "{text}");
        }
        assert!(parse("r", &format!("block domain {}", "a,".repeat(3000))).is_err());
    }

    /// Draws a rule that is right.
    fn draw(random: &mut Random) -> Rule {
        let mut rule = Rule { name: "r".to_owned(), enabled: true, ..Rule::default() };
        rule.action = RuleAction::ALL[random.below(RuleAction::ALL.len() as u64) as usize];
        let name =
            |random: &mut Random, names: [&str; 2]| names[random.below(2) as usize].to_owned();
        while !rule.is_complete() || random.below(3) > 0 {
            match random.below(18) {
                0 => rule
                    .domains
                    .push(["port", "ads.example.com", "xn--a.b"][random.below(3) as usize].into()),
                1 => rule.nets.push(Net::new(
                    Addr::from_v4_octets(random.bytes()),
                    96 + random.below(33) as u8,
                )),
                2 => {
                    let first = random.below(65_536) as u16;
                    let last = first.saturating_add(random.below(9) as u16);
                    let transport = [0, 6, 17][random.below(3) as usize];
                    rule.ports.push(Ports { transport, first, last });
                }
                3 => rule.fingerprints.push(Fingerprint::Ja3(random.bytes())),
                4 => rule.fingerprint_files.push("/etc/sluice/for.csv".into()),
                5 => rule
                    .protocols
                    .push(PROTOCOLS[random.below(PROTOCOLS.len() as u64) as usize].into()),
                6 => rule.devices.push(Device::Mac(Mac(random.bytes()))),
                7 => rule.groups.push(name(random, ["for", "zone"])),
                8 => rule.zones.push(name(random, ["a", "Z9"])),
                9 => rule.schedules.push(name(random, ["when", "any"])),
                11 => rule.apps.push(name(random, ["video", "app"])),
                12 => rule.countries.push(name(random, ["de", "at"])),
                14 => rule.fingerprints.push(Fingerprint::Ja3s(random.bytes())),
                15 => rule.fingerprints.push(Fingerprint::Certificate(random.bytes())),
                16 => rule.ja3s_files.push("/etc/sluice/servers".into()),
                17 => rule.certificate_files.push("/etc/sluice/when.csv".into()),
                10 => rule.until = Some(Moment(random.below(1 << 35).cast_signed())),
                _ => {
                    let ja4 = "t13d1516h2_8daaf6152771_e5627efa2ab1";
                    rule.fingerprints.push(Fingerprint::ja4(ja4).unwrap());
                }
            }
        }
        // Each kind is an option of its own.
        rule.fingerprints.sort_unstable();
        if rule.action == RuleAction::Limit {
            (rule.kbit, rule.burst_kib) =
                (1 + random.below(1_000_000) as u32, random.below(99) as u32);
        }
        if rule.action == RuleAction::Mark {
            rule.profile = Some(name(random, ["voice", "own"]));
        }
        rule
    }

    /// `config rule` with the same options.
    fn section(rule: &Rule) -> String {
        let mut text = format!("config rule r\n\toption action {}\n", rule.action.name());
        let mut put = |word: &str, option: &str, value: &dyn Display| {
            let _ = writeln!(text, "\t{word} {option} '{value}'");
        };
        rule.domains.iter().for_each(|value| put("list", "domain", value));
        rule.apps.iter().for_each(|value| put("list", "app", value));
        rule.nets.iter().for_each(|value| put("list", "ip", value));
        rule.countries.iter().for_each(|value| put("list", "country", value));
        rule.ports.iter().for_each(|value| put("list", "port", value));
        for value in &rule.fingerprints {
            put("list", word_of(value), value);
        }
        rule.fingerprint_files
            .iter()
            .for_each(|value| put("list", "fingerprint_file", &value.display()));
        for (option, files) in
            [("ja3s_file", &rule.ja3s_files), ("certificate_file", &rule.certificate_files)]
        {
            for file in files {
                put("list", option, &file.display());
            }
        }
        rule.protocols.iter().for_each(|value| put("list", "protocol", value));
        rule.devices.iter().for_each(|value| put("list", "device", value));
        rule.groups.iter().for_each(|value| put("list", "group", value));
        rule.zones.iter().for_each(|value| put("list", "zone", value));
        rule.schedules.iter().for_each(|value| put("list", "schedule", value));
        rule.until.iter().for_each(|value| put("option", "until", value));
        rule.profile.iter().for_each(|value| put("option", "profile", value));
        put("option", "kbit", &rule.kbit);
        put("option", "burst_kib", &rule.burst_kib);
        text
    }

    /// R169: text and section of every rule give the same rule.
    #[test]
    fn text_and_section_of_a_rule_are_the_same_rule() {
        const AROUND: &str = "config sluice main\n\toption app_file /etc/apps\n\toption country_dir /etc/c\n\
                              config interface Z9\n\toption device a\n\toption role wan\n\
                              config interface a\n\toption device b\n\toption role lan\n\
                              config profile own\n\toption priority 3\n\
                              config schedule when\nconfig schedule any\n\
                              config group for\n\tlist device 192.0.2.1\n\
                              config group zone\n\tlist device 192.0.2.1\n";
        let mut random = Random(7);
        for round in 0..2000 {
            let rule = draw(&mut random);
            let text = print(&rule);
            assert_eq!(parse("r", &text).as_ref(), Ok(&rule), "{round}: {text}");
            let file = format!("{AROUND}{}", section(&rule));
            match Config::parse(file.as_bytes(), "f") {
                Ok((config, _)) => assert_eq!(config.rules, [rule], "{round}: {text}"),
                Err(error) => panic!("{round}: {text}: {error}"),
            }
        }
    }
}
