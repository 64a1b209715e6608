//! Section `rule`: what happens to flows to named hosts.

use sluice_abi::flow::FlowLimit;

use super::domain::plain;
use super::reader::{FromUci, Reader, words};
use super::schema::{Fallback, Kind, OptionSpec, SectionSpec};

/// What a rule does.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RuleAction {
    /// The flow is trusted, whatever other rules say.
    Allow,
    /// The flow is blocked.
    #[default]
    Block,
    /// The flow is held to a rate.
    Limit,
}
words!(RuleAction, "allow" => Self::Allow, "block" => Self::Block, "limit" => Self::Limit);

/// What happens to flows to named hosts.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Name of the section, or `@rule[0]`.
    pub name: String,
    /// Whether it counts.
    pub enabled: bool,
    /// What it does.
    pub action: RuleAction,
    /// Domains, in lower case and without a final dot; sub-domains are included.
    pub domains: Vec<String>,
    /// Rate of each direction of each flow, in kbit/s; 0 for the profile's.
    pub kbit: u32,
    /// Burst of that rate, in KiB; 0 for 300 ms' worth.
    pub burst_kib: u32,
    /// Name of the flow's profile.
    pub profile: Option<String>,
}

/// Largest burst in KiB.
pub(super) const BURST_KIB_MAX: u32 = FlowLimit::BURST_MAX / 8192;

pub(super) const SPEC: SectionSpec = SectionSpec {
    kind: "rule",
    example: "tracker",
    about: "What happens to flows whose ClientHello names one of these domains.",
    #[rustfmt::skip]
    options: &[
        OptionSpec::new("enabled", Kind::Flag, "1",
            "Whether the rule counts."),
        OptionSpec::new("action", Kind::Word(&["allow", "block", "limit"]), "block",
            "What happens to the flow: trusted, dropped, or held to a rate."),
        OptionSpec::list("domain", Kind::Domain, Fallback::Required,
            "Domains; sub-domains are included."),
        OptionSpec::new("kbit", Kind::Number { min: 0, max: FlowLimit::KBIT_MAX }, "0",
            "Rate of each direction of each flow, in kbit/s, with action limit; 0 is the rate of its profile."),
        OptionSpec::new("burst_kib", Kind::Number { min: 0, max: BURST_KIB_MAX }, "0",
            "What a quiet direction may send at once, in KiB; 0 is as much as in 300 ms, and 64 at least."),
        OptionSpec::optional("profile", Kind::Profile,
            "Profile of the flow: how its packets are marked when they leave, and the rate, if it has one."),
    ],
};

/// A domain name in the form in which names are compared.
struct Domain(String);

impl FromUci for Domain {
    fn from_uci(text: &str, _: Kind) -> Result<Self, String> {
        domain(text).map(Self).map_err(str::to_owned)
    }
}

/// The name in lower case, without a final dot.
fn domain(text: &str) -> Result<String, &'static str> {
    plain(text).map(str::to_ascii_lowercase)
}

/// The name of a section.
struct Name(String);

impl FromUci for Name {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        if !text.is_empty() && text.bytes().all(fits) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("is not the {kind}: it has letters, digits and _"))
        }
    }
}

impl Rule {
    pub(super) fn read(name: String, mut uci: Reader<'_>) -> Self {
        let rule = Self {
            name,
            enabled: uci.get("enabled"),
            action: uci.get("action"),
            domains: uci.values("domain").into_iter().map(|Domain(name)| name).collect(),
            kbit: uci.get("kbit"),
            burst_kib: uci.get("burst_kib"),
            profile: uci.find("profile").map(|Name(name)| name),
        };
        let is_limit = rule.action == RuleAction::Limit;
        let has_profile = rule.profile.as_ref().is_some_and(|name| name != super::profile::DEFAULT);
        for (option, is_unused) in [
            ("kbit", rule.kbit != 0 && !is_limit),
            ("burst_kib", rule.burst_kib != 0 && !is_limit),
            ("profile", has_profile && rule.action == RuleAction::Block),
        ] {
            if is_unused {
                uci.warn(uci.line_of(option), option, "is not used with this action".to_owned());
            }
        }
        if is_limit && rule.kbit == 0 && rule.profile.is_none() {
            let line = if uci.has("action") { uci.line_of("action") } else { uci.line() };
            uci.reject(
                line,
                "kbit",
                "is required with action limit, or a profile that has a rate".to_owned(),
            );
        }
        rule
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_compared_in_lower_case_without_the_final_dot() {
        for (text, name) in [
            ("example.com", "example.com"),
            ("Ads.Example.COM.", "ads.example.com"),
            ("_dns.resolver.arpa", "_dns.resolver.arpa"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("zip", "zip"),
            ("1.2.3.4.example", "1.2.3.4.example"),
        ] {
            assert_eq!(domain(text).as_deref(), Ok(name));
        }
        assert!(domain(&format!("{}.example", "a".repeat(63))).is_ok());
    }

    #[test]
    fn what_is_no_domain_is_refused_with_a_hint() {
        for (text, hint) in [
            ("bücher.example", "xn--"),
            ("*.example.com", "sub-domains are included"),
            (".example.com", "sub-domains are included"),
            ("https://example.com", "without scheme"),
            ("example.com:443", "without scheme"),
            ("192.0.2.1", "blocklist"),
            ("2001:db8::1", "without scheme"),
            ("", "1 to 253"),
            (".", "1 to 253"),
            ("a..b", "between dots"),
            ("example.com..", "between dots"),
            ("-a.example", "between dots"),
            ("a-.example", "between dots"),
            ("a b.example", "between dots"),
            ("a\u{1b}.example", "between dots"),
        ] {
            let reason = domain(text).unwrap_err();
            assert!(reason.contains(hint), "{text}: {reason}");
        }
        assert!(domain(&format!("{}.example", "a".repeat(64))).is_err());
        assert!(domain(&["a"; 128].join(".")).is_err());
    }
}
