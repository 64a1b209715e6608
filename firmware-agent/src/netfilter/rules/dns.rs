//! Rules that copy DNS messages of the LAN, and do nothing else with them.
//!
//! They cost packets of trusted flows nothing: those leave *inspect* before, what a flowtable sends
//! meets no rule, and the other two hooks are this router's own traffic.

use std::fmt::Write as _;

use super::nft::quoted;

/// What stands in front of a copied question, and of a copied answer.
pub const QUESTION: &str = "question";
#[expect(missing_docs, reason = "as above")]
pub const ANSWER: &str = "answer";

/// Devices whose messages are copied, and who gets the copies.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Dns {
    pub(super) lan: Vec<Box<str>>,
    pub(super) group: u16,
}

impl Dns {
    /// Rules for what is forwarded.
    pub(super) fn forwarded(&self, text: &mut String) {
        self.questions(text);
        self.answers(text);
    }

    /// Chains for what this router is asked and answers.
    pub(super) fn own(&self, text: &mut String) {
        let hook = |text: &mut String, name, hook| {
            let _ = writeln!(
                text,
                "\tchain {name} {{\n\t\ttype filter hook {hook} priority filter; policy accept;"
            );
        };
        hook(text, "asked", "input");
        self.questions(text);
        text.push_str("\t}\n");
        hook(text, "tells", "output");
        self.answers(text);
        text.push_str("\t}\n");
    }

    fn questions(&self, text: &mut String) {
        self.rules(text, "dport 53 iifname", QUESTION);
    }

    fn answers(&self, text: &mut String) {
        self.rules(text, "sport 53 oifname", ANSWER);
    }

    fn rules(&self, text: &mut String, of: &str, prefix: &str) {
        let (lan, group) = (quoted(&self.lan), self.group);
        for proto in ["udp", "tcp"] {
            let _ = writeln!(
                text,
                "\t\t{proto} {of} {{ {lan} }} log prefix \"{prefix}\" group {group}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Replace;
    use super::super::tests::sample;

    #[test]
    fn messages_of_the_lan_are_copied_before_anything_is_decided_about_them() {
        let rules = sample(1, true).copying_dns(["br-lan", "guest"], 5).unwrap();
        assert_eq!((rules.dns_group(), rules.without_dns()), (Some(5), sample(1, true)));
        let text = rules.nft(Replace::Flush);
        let rules = |of: &str, prefix: &str| {
            ["udp", "tcp"].map(|proto| {
                format!(
                    "\t\t{proto} {of} {{ \"br-lan\", \"guest\" }} log prefix \"{prefix}\" group 5\n"
                )
            })
        };
        let questions = rules("dport 53 iifname", "question").concat();
        let answers = rules("sport 53 oifname", "answer").concat();
        for (hook, rules) in [("input", &questions), ("output", &answers)] {
            let hook = format!("\t\ttype filter hook {hook} priority filter; policy accept;\n");
            assert!(text.contains(&format!("{hook}{rules}\t}}\n")), "{text}");
        }
        // What comes back from its queue was copied on its way there.
        let forwarded = format!("jump answered\n{questions}{answers}\t\tmeta mark");
        assert!(text.contains(&forwarded), "{text}");
        assert_eq!(text.matches(" log ").count(), 8);
        let none = sample(1, true).copying_dns([""; 0], 5).unwrap();
        assert_eq!(none, sample(1, true));
        assert!(sample(1, true).copying_dns(["a\"b"], 5).is_err());
    }
}
