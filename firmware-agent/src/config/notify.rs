//! Who is told of events, and where figures are offered.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::reader::{FromUci, Reader};
use super::schema::Kind;

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    /// A flow was blocked.
    Verdict,
    /// A rule of a ruleset matched.
    Alert,
    /// A destination is under attack, or is no more.
    Attack,
    /// Lists or rulesets that are wanted are not in force, or are again.
    List,
    /// A part of the agent works with less than before, or as it should again.
    Health,
    /// Devices were kept from addresses on a blocklist.
    Contact,
}

impl EventKind {
    /// Each of them.
    pub const ALL: [Self; 6] =
        [Self::Verdict, Self::Alert, Self::Attack, Self::List, Self::Health, Self::Contact];
    /// Their names.
    pub const NAMES: [&'static str; 6] =
        ["verdict", "alert", "attack", "list", "health", "contact"];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl FromUci for EventKind {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("is not one of {kind}"))
    }
}

/// Where somebody of this router may ask: nobody else reaches it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Loopback(SocketAddr);

impl FromUci for Loopback {
    fn from_uci(text: &str, kind: Kind) -> Result<Self, String> {
        let address: Option<SocketAddr> = text.parse().ok();
        let fits = |address: &SocketAddr| address.ip().is_loopback() && address.port() != 0;
        address.filter(fits).map(Self).ok_or_else(|| format!("is not {kind}"))
    }
}

/// Who is told of events, and where figures are offered.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notify {
    /// What is started for each event.
    pub script: Option<PathBuf>,
    /// What nobody is told of.
    pub mute: Vec<EventKind>,
    /// Where the figures for Prometheus are.
    pub metrics: Option<SocketAddr>,
}

impl Notify {
    pub(super) fn read(uci: &mut Reader<'_>) -> Self {
        Self {
            script: uci.find("notify_script"),
            mute: uci.values("mute"),
            metrics: uci.find::<Loopback>("metrics_listen").map(|at| at.0),
        }
    }

    /// Whether nobody is told of events of this kind.
    #[must_use]
    pub fn mutes(&self, kind: EventKind) -> bool {
        self.mute.contains(&kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, Warning};

    /// A configuration that is right but for `text`.
    fn with(text: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
        let interfaces = "config interface wan\noption device eth0\noption role wan\n\
                          config interface lan\noption device br-lan\noption role lan\n";
        Config::parse(format!("{interfaces}{text}").as_bytes(), "f")
    }

    /// R152: figures are for this router alone.
    #[test]
    fn figures_are_offered_on_loopback_only() {
        let read = |value: &str| with(&format!("config sluice\noption metrics_listen '{value}'\n"));
        for value in ["127.0.0.1:9616", "127.1.2.3:1", "[::1]:65535"] {
            let metrics = read(value).unwrap().0.main.notify.metrics;
            assert_eq!(metrics.unwrap().to_string(), value);
        }
        for value in [
            "0.0.0.0:9616",
            "[::]:9616",
            "192.168.1.1:9616",
            "203.0.113.1:80",
            "[::ffff:127.0.0.1]:80",
            "127.0.0.1:0",
            "127.0.0.1",
            "9616",
            "localhost:9616",
            "[fe80::1]:9616",
        ] {
            let mistakes: Vec<_> =
                read(value).unwrap_err().mistakes.iter().map(ToString::to_string).collect();
            assert!(
                mistakes[0].contains("is not loopback address and port"),
                "{value}: {mistakes:?}"
            );
        }
        assert_eq!(with("config sluice\n").unwrap().0.main.notify, Notify::default());
    }

    #[test]
    fn kinds_of_events_keep_their_names() {
        for (kind, name) in EventKind::ALL.iter().zip(EventKind::NAMES) {
            assert_eq!(kind.name(), name);
        }
        let (config, _) = with("config sluice\nlist mute alert\nlist mute health\n").unwrap();
        let notify = config.main.notify;
        let muted = EventKind::ALL.map(|kind| notify.mutes(kind));
        assert_eq!(muted, [false, true, false, false, true, false]);
        let refused = with("config sluice\nlist mute all\n").unwrap_err().mistakes;
        assert!(refused[0].to_string().contains("is not one of verdict"));
    }
}
