//! Which way is taken, and why not a better one.

use super::{ApplyError, Backend, Iptables, Kind, Nft};

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Wish {
    /// The best that the kernel takes.
    #[default]
    Auto,
    /// This one or none.
    Only(Kind),
}

/// Finds the way that this kernel takes by trying; returns it with the reasons against better ones.
pub fn choose(wish: Wish) -> Result<(Box<dyn Backend>, Vec<String>), ApplyError> {
    let (kind, reasons) = ladder(wish, Nft::probe, Iptables::probe)?;
    Ok((kind.backend(), reasons))
}

/// The decision: rungs best first, each tried only when the one before does not hold.
pub fn ladder(
    wish: Wish,
    nft: impl FnOnce() -> Result<(), ApplyError>,
    iptables: impl FnOnce() -> Result<(), ApplyError>,
) -> Result<(Kind, Vec<String>), ApplyError> {
    let mut reasons = Vec::new();
    let mut holds = |kind: Kind, probed: Result<(), ApplyError>| match probed {
        Ok(()) => true,
        Err(error) => {
            reasons.push(format!("{}: {error}{}", kind.name(), advice(kind, &error)));
            false
        }
    };
    let kind = if wish != Wish::Only(Kind::Iptables) && holds(Kind::Nft, nft()) {
        Kind::Nft
    } else if wish != Wish::Only(Kind::Nft) && holds(Kind::Iptables, iptables()) {
        Kind::Iptables
    } else {
        return Err(ApplyError::NoBackend(reasons));
    };
    Ok((kind, reasons))
}

/// The kernel's way to say that it has no such expression or target is "no such file".
const fn advice(kind: Kind, error: &ApplyError) -> &'static str {
    match (kind, error) {
        (Kind::Nft, ApplyError::Refused { .. }) => {
            " (without the queue expression: install kmod-nft-queue)"
        }
        (Kind::Iptables, ApplyError::Refused { .. }) => {
            " (without the NFQUEUE target: install kmod-ipt-nfqueue and kmod-ipt-conntrack-extra)"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<(), ApplyError> {
        Err(ApplyError::Refused {
            program: "nft",
            what: "queue packets",
            output: "No such file or directory".into(),
        })
    }

    fn missing() -> Result<(), ApplyError> {
        Err(ApplyError::Missing { program: "iptables-nft-restore", package: "iptables-nft" })
    }

    fn untried() -> Result<(), ApplyError> {
        panic!("this rung must not be tried")
    }

    #[test]
    fn the_best_rung_that_holds_is_taken_and_worse_ones_are_not_tried() {
        assert_eq!(ladder(Wish::Auto, || Ok(()), untried).unwrap(), (Kind::Nft, vec![]));
        let (kind, reasons) = ladder(Wish::Auto, refused, || Ok(())).unwrap();
        assert_eq!(kind, Kind::Iptables);
        assert_eq!(reasons.len(), 1);
        assert!(reasons[0].starts_with("nft: `nft` failed to queue packets: No such file"));
        assert!(reasons[0].contains("kmod-nft-queue"));
    }

    #[test]
    fn a_wish_is_granted_or_refused_but_never_replaced() {
        let only = |kind| Wish::Only(kind);
        assert_eq!(
            ladder(only(Kind::Iptables), untried, || Ok(())).unwrap(),
            (Kind::Iptables, vec![])
        );
        let error = ladder(only(Kind::Nft), refused, untried).unwrap_err();
        assert!(matches!(&error, ApplyError::NoBackend(reasons) if reasons.len() == 1), "{error}");
    }

    #[test]
    fn no_rung_is_an_error_with_every_reason_and_next_step() {
        let error = ladder(Wish::Auto, refused, missing).unwrap_err().to_string();
        assert!(error.contains("kmod-nft-queue"), "{error}");
        assert!(error.contains("iptables-nft-restore` is missing: install"), "{error}");
    }
}
