//! Whether spreading is of use on a device and does no harm there, and who gets which part: pure.

use sluice_abi::attach::Link;

use crate::config::SpreadWish;

/// What matters about a device with a shield, and the machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation {
    pub(super) link: Link,
    /// The driver, where the shield is in it; behind it the buffer itself changes the processor, with
    /// all that is known about it.
    pub(super) driver: Option<Driver>,
    /// Processors that run.
    pub(super) cpus: usize,
    /// Receive queues, if the driver says how many.
    pub(super) queues: Option<u32>,
    /// Whether packet steering is on.
    pub(super) is_steered: bool,
}

/// What matters about a driver.
#[derive(Clone, Copy, Debug)]
pub(super) struct Driver {
    /// Whether the device is one end of a veth pair.
    pub(super) is_veth: bool,
    /// Whether it takes VLAN tags off.
    pub(super) strips_tags: bool,
    /// Whether it can redirect frames, if the kernel says so.
    pub(super) redirects: Option<bool>,
}

/// Why packets stay where they arrive, though something else is wanted.
pub(super) fn obstacle(of: &Situation, wish: SpreadWish) -> Option<String> {
    impossible(of).or_else(|| if wish == SpreadWish::On { None } else { useless(of) })
}

/// What makes it fail.
fn impossible(of: &Situation) -> Option<String> {
    if of.cpus < 2 {
        return Some("there is no second processor".to_owned());
    }
    if of.link == Link::Ip {
        return Some(
            "its frames have no Ethernet header, without which they cannot change the processor"
                .to_owned(),
        );
    }
    if of.driver.is_some_and(|driver| driver.strips_tags) {
        return Some(
            "the driver takes VLAN tags off, and they would be lost on the way to another \
             processor; ethtool -K rxvlan off keeps them in the frames"
                .to_owned(),
        );
    }
    if of.driver.is_some_and(|driver| driver.redirects == Some(false)) {
        return Some("its driver cannot redirect frames".to_owned());
    }
    None
}

/// What makes it pointless, or a matter of trust.
fn useless(of: &Situation) -> Option<String> {
    if let Some(queues) = of.queues.filter(|queues| *queues > 1) {
        return Some(format!("its {queues} receive queues share flows out already"));
    }
    if of.is_steered {
        return Some(
            "packet steering shares flows out already; with option packet_steering of the network \
             configuration at 0 the shield can do it earlier"
                .to_owned(),
        );
    }
    if of.driver.is_some_and(|driver| driver.is_veth) {
        return Some(
            "it is one end of a veth pair: frames that come without a checksum would never get \
             one; where the other end computes them (ethtool -K tx off), option spread can be on"
                .to_owned(),
        );
    }
    if of.driver.is_some_and(|driver| driver.redirects.is_none()) {
        return Some(
            "this kernel does not say whether the driver can redirect frames, and one that cannot \
             would drop them; Linux 6.3 says it, and option spread at on takes it for granted"
                .to_owned(),
        );
    }
    None
}

/// Which processor has which slot of the flows, as its number and one; `before` is how it was. As few
/// slots as possible change hands.
pub(super) fn assign(before: &[u32], online: &[u32]) -> Vec<u32> {
    let Some(most) = before
        .len()
        .checked_div(online.len())
        .map(|each| each + usize::from(!before.len().is_multiple_of(online.len())))
    else {
        return vec![0; before.len()];
    };
    let mut counts = vec![0_usize; online.len()];
    let mut after = vec![0; before.len()];
    for (to, from) in after.iter_mut().zip(before) {
        let place = online.iter().position(|cpu| cpu + 1 == *from);
        if let Some(count) = place.and_then(|place| counts.get_mut(place))
            && *count < most
        {
            *count += 1;
            *to = *from;
        }
    }
    for to in after.iter_mut().filter(|to| **to == 0) {
        let least = counts.iter_mut().zip(online).min_by_key(|(count, _)| **count);
        if let Some((count, cpu)) = least {
            *count += 1;
            *to = cpu + 1;
        }
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRIVER: Driver = Driver { is_veth: false, strips_tags: false, redirects: Some(true) };
    const GOOD: Situation = Situation {
        link: Link::Ethernet,
        driver: Some(DRIVER),
        cpus: 2,
        queues: Some(1),
        is_steered: false,
    };

    #[test]
    fn each_obstacle_is_one_and_says_so() {
        use SpreadWish::{Auto, On};
        assert_eq!(obstacle(&GOOD, Auto), None);
        assert_eq!(obstacle(&Situation { link: Link::Mtk, ..GOOD }, Auto), None);
        let unsaid = Situation { queues: None, ..GOOD };
        assert_eq!(obstacle(&unsaid, Auto), None, "such drivers have one queue");
        let with = |driver| Situation { driver: Some(driver), ..GOOD };
        // The obstacle, and whether it is one also where spreading is insisted on.
        #[rustfmt::skip]
        let cases = [
            (Situation { cpus: 1, ..GOOD }, "no second processor", true),
            (Situation { cpus: 0, ..GOOD }, "no second processor", true),
            (Situation { link: Link::Ip, ..GOOD }, "no Ethernet header", true),
            (with(Driver { strips_tags: true, ..DRIVER }), "VLAN tags", true),
            (with(Driver { redirects: Some(false), ..DRIVER }), "cannot redirect", true),
            (with(Driver { redirects: None, ..DRIVER }), "does not say whether", false),
            (with(Driver { is_veth: true, ..DRIVER }), "checksum", false),
            (Situation { queues: Some(4), ..GOOD }, "4 receive queues", false),
            (Situation { is_steered: true, ..GOOD }, "packet steering", false),
        ];
        for (situation, part, always) in cases {
            let reason = obstacle(&situation, Auto).unwrap_or_default();
            assert!(reason.contains(part), "{situation:?}: {reason}");
            assert_eq!(obstacle(&situation, On).is_some(), always, "{situation:?}");
        }
        assert_eq!(obstacle(&Situation { driver: None, ..GOOD }, Auto), None, "behind the driver");
    }

    fn counts(slots: &[u32], cpus: &[u32]) -> Vec<usize> {
        cpus.iter().map(|cpu| slots.iter().filter(|slot| **slot == cpu + 1).count()).collect()
    }

    #[test]
    fn slots_are_shared_out_evenly_and_all_of_them() {
        for online in [&[0][..], &[0, 1], &[1, 4, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
            let slots = assign(&[0; 128], online);
            let counts = counts(&slots, online);
            assert_eq!(counts.iter().sum::<usize>(), 128, "{online:?}: {slots:?}");
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(most - least <= 1, "{online:?}: {counts:?}");
            assert_eq!(assign(&slots, online), slots, "nothing changes hands without a reason");
        }
        assert_eq!(assign(&[1, 2, 1, 2], &[]), [0; 4]);
    }

    #[test]
    fn a_processor_that_goes_takes_only_its_own_flows_along() {
        let four = assign(&[0; 128], &[0, 1, 2, 3]);
        let three = assign(&four, &[0, 1, 3]);
        for (before, after) in four.iter().zip(&three) {
            assert!(before == after || *before == 3, "{before} -> {after}");
            assert_ne!(*after, 3);
        }
        let again = assign(&three, &[0, 1, 2, 3]);
        assert!(counts(&again, &[0, 1, 2, 3]).iter().all(|count| (31..=33).contains(count)));
    }
}
