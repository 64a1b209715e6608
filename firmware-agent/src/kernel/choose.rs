//! Which of several ways to use, best first; pure.

use super::Support;

/// Where the shield runs on a device, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum XdpRung {
    /// In the driver.
    Native,
    /// In the fast path, at the entrance of the stack: a packet of a trusted flow pays nothing for it.
    Tc,
    /// In the network stack, after a buffer was made for the frame.
    Generic,
    /// Nowhere: lists and rates are off, TC still applies verdicts.
    None,
}

/// How verdicts reach the packets of a device, best first.
#[derive(Clone, Copy, Debug, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TcRung {
    /// tcx links: survive other classifiers and the agent, are replaced in one step.
    Tcx,
    /// clsact qdisc and `cls_bpf` filters.
    Clsact,
    /// No classifier: verdicts live in the ct mark alone, and every packet of a new flow goes
    /// through the inspection queue.
    QueueOnly,
}

impl XdpRung {
    /// The word used in status and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Tc => "tc",
            Self::Generic => "generic",
            Self::None => "none",
        }
    }
}

impl TcRung {
    /// The word used in status and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
            Self::QueueOnly => "queue_only",
        }
    }
}

/// Picks the best place for the shield that works, and says what was missing for the better ones.
///
/// Takes closures so that the order can be tested on any kernel, and so that what is not needed is
/// not tried.
pub fn choose_xdp(
    native: impl FnOnce() -> Support,
    generic: impl FnOnce() -> Support,
) -> (XdpRung, Vec<String>) {
    first([
        (XdpRung::Native, "native", Box::new(native)),
        (XdpRung::Generic, "generic", Box::new(generic)),
    ])
    .unwrap_or_else(|missing| (XdpRung::None, missing))
}

/// Picks the best classifier that works, and says what was missing for the better ones.
pub fn choose_tc(
    tcx: impl FnOnce() -> Support,
    clsact: impl FnOnce() -> Support,
) -> (TcRung, Vec<String>) {
    first([(TcRung::Tcx, "tcx", Box::new(tcx)), (TcRung::Clsact, "clsact", Box::new(clsact))])
        .unwrap_or_else(|missing| (TcRung::QueueOnly, missing))
}

type Attempt<'a, T> = (T, &'static str, Box<dyn FnOnce() -> Support + 'a>);

fn first<T>(attempts: [Attempt<'_, T>; 2]) -> Result<(T, Vec<String>), Vec<String>> {
    let mut missing = Vec::new();
    for (rung, name, attempt) in attempts {
        match attempt() {
            Support::Yes => return Ok((rung, missing)),
            Support::No(why) | Support::Unknown(why) => missing.push(format!("{name}: {why}")),
        }
    }
    Err(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no(why: &str) -> Support {
        Support::No(why.to_owned())
    }

    #[test]
    fn tc_falls_back_in_order_and_keeps_the_reasons() {
        let (rung, missing) = choose_tc(|| Support::Yes, || panic!("not needed"));
        assert_eq!((rung, missing.len()), (TcRung::Tcx, 0));

        let (rung, missing) = choose_tc(|| no("before 6.6"), || Support::Yes);
        assert_eq!((rung, missing), (TcRung::Clsact, vec!["tcx: before 6.6".to_owned()]));

        let (rung, missing) =
            choose_tc(|| no("before 6.6"), || Support::Unknown("no permission".to_owned()));
        assert_eq!(rung, TcRung::QueueOnly);
        assert_eq!(missing, ["tcx: before 6.6", "clsact: no permission"]);
    }

    #[test]
    fn xdp_falls_back_in_order_and_keeps_the_reasons() {
        let (rung, missing) = choose_xdp(|| Support::Yes, || panic!("not needed"));
        assert_eq!((rung, missing.len()), (XdpRung::Native, 0));

        let (rung, missing) = choose_xdp(|| no("driver"), || Support::Yes);
        assert_eq!((rung, missing), (XdpRung::Generic, vec!["native: driver".to_owned()]));

        let (rung, missing) = choose_xdp(|| no("driver"), || no("foreign program"));
        assert_eq!(rung, XdpRung::None);
        assert_eq!(missing, ["native: driver", "generic: foreign program"]);
    }
}
