//! Devices of the LAN that were kept from addresses on a blocklist, as far as the shields count it:
//! how many packets, on which interface, which lists counted meanwhile, and the ends of one of the
//! packets. Pure.

use std::net::IpAddr;

use crate::control::events::{Event, Kind, Severity};

/// After so long without any, packets are told of again.
const QUIET_NS: u64 = 600_000_000_000;

/// A list that dropped something since a moment, on any interface.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped {
    /// Its name.
    pub(super) list: String,
    /// Where the last packet came in.
    pub(super) interface: Option<String>,
    /// Source and destination of that packet.
    pub(super) ends: Option<(IpAddr, IpAddr)>,
    /// What the source is called.
    pub(super) device_name: Option<String>,
}

/// What was counted, and told of lately.
#[derive(Debug, Default)]
pub(super) struct Contacts {
    /// Packets at the last look, by interface.
    before: Vec<(String, u64)>,
    looked_ns: u64,
    /// When packets were counted last, by interface and list.
    last: Vec<(String, String, u64)>,
}

impl Contacts {
    /// What is to be told of `packets`, of devices, that shields of the LAN dropped for a blocklist, by
    /// interface. Where there are more than before, `lists` names those that dropped something since
    /// a moment, on any interface.
    pub(super) fn look(
        &mut self,
        now_ns: u64,
        packets: Vec<(String, u64)>,
        lists: impl FnOnce(u64) -> Vec<Dropped>,
    ) -> Vec<Event> {
        self.last.retain(|(.., at)| now_ns.saturating_sub(*at) < QUIET_NS);
        let since_ns = std::mem::replace(&mut self.looked_ns, now_ns);
        let before = std::mem::replace(&mut self.before, packets);
        let mut more = Vec::new();
        for (name, now) in &self.before {
            let then = before.iter().find(|(known, _)| known == name);
            let count = then.and_then(|(_, then)| now.checked_sub(*then)).unwrap_or_default();
            if count != 0 {
                more.push((name, count));
            }
        }
        if more.is_empty() {
            return Vec::new();
        }
        let dropped = lists(since_ns);
        let lists: Vec<&str> = dropped.iter().map(|one| &*one.list).collect();
        // Where nothing is known of lists, the interface alone.
        let names = if lists.is_empty() { vec![""] } else { lists.clone() };
        let mut events = Vec::new();
        for (interface, packets) in more {
            let mut of_interface = self.last.iter_mut().filter(|known| known.0 == *interface);
            if lists.is_empty()
                && let Some(known) = of_interface.next()
            {
                known.2 = now_ns;
                continue;
            }
            let mut is_news = false;
            for list in &names {
                let is = |one: &&mut (String, String, u64)| one.0 == *interface && one.1 == *list;
                if let Some(known) = self.last.iter_mut().find(is) {
                    known.2 = now_ns;
                } else {
                    is_news = true;
                    self.last.push((interface.clone(), (*list).to_owned(), now_ns));
                }
            }
            if is_news {
                let here = dropped.iter().find(|one| one.interface.as_ref() == Some(interface));
                events.push(event(interface, packets, &lists, here));
            }
        }
        events
    }
}

/// One of them as an event.
pub(super) fn event(
    interface: &str,
    packets: u64,
    lists: &[&str],
    here: Option<&Dropped>,
) -> Event {
    let (ends, name) = here.map(|one| (one.ends, one.device_name.clone())).unwrap_or_default();
    let by = if lists.is_empty() { String::new() } else { format!(" by {}", lists.join(", ")) };
    let what = match ends {
        Some((device, peer)) => format!("{device} was kept from the listed address {peer}{by}"),
        None => format!("a device behind {interface} was kept from a listed address{by}"),
    };
    let event = Event::new(Kind::Contact, Severity::Warning, what)
        .with_some("device", ends.map(|(device, _)| device.to_string()))
        .with_some("device_name", name)
        .with_some("address", ends.map(|(_, peer)| peer.to_string()));
    event.with("interface", interface).with("packets", packets).with("lists", lists.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan(packets: u64) -> Vec<(String, u64)> {
        vec![("lan".to_owned(), packets)]
    }

    /// R177: a contact is told once, again after ten minutes without any, and of another list at once.
    #[test]
    fn a_contact_with_a_listed_address_is_told_when_it_begins() {
        let mut contacts = Contacts::default();
        let mut look = |s: u64, packets: u64, lists: &[&str]| -> Vec<String> {
            let dropped = |name: &&str| Dropped { list: (*name).to_owned(), ..Dropped::default() };
            let lists = lists.iter().map(dropped).collect();
            let events = contacts.look(s * 1_000_000_000, lan(packets), |_| lists);
            let shown = |event: Event| format!("{} {}", event.facts["packets"], event.what);
            events.into_iter().map(shown).collect()
        };
        assert_eq!(look(0, 7, &["bad"]), [""; 0], "counted before this agent");
        assert_eq!(look(2, 7, &["bad"]), [""; 0], "strangers from outside");
        let bad = "a device behind lan was kept from a listed address by bad";
        assert_eq!(look(4, 9, &["bad"]), [format!("2 {bad}")]);
        assert_eq!(look(6, 10, &["bad"]), [""; 0], "it goes on");
        assert_eq!(look(8, 11, &["bad", "worse"]), [format!("1 {bad}, worse")]);
        assert_eq!(look(607, 12, &["bad"]), [""; 0], "not quiet yet");
        assert_eq!(look(1206, 13, &["bad"]), [""; 0]);
        assert_eq!(look(1807, 14, &["bad"]), [format!("1 {bad}")], "after a pause");
        assert_eq!(look(3000, 0, &["bad"]), [""; 0], "counters that begin anew");
        assert_eq!(look(3002, 1, &[]), ["1 a device behind lan was kept from a listed address"]);
        assert_eq!(look(3004, 2, &["bad"]), [format!("1 {bad}")]);
        assert_eq!(look(3006, 3, &[]), [""; 0], "of a list that was told");
    }

    /// R177: the device and the address are those of a packet that came in there.
    #[test]
    fn a_contact_names_the_device_and_the_address_where_they_are_known() {
        let ends = ["192.0.2.1", "198.51.100.7"].map(|end| end.parse::<IpAddr>().unwrap());
        let one = |list: &str, interface: &str| Dropped {
            list: list.to_owned(),
            interface: Some(interface.to_owned()),
            ends: Some((ends[0], ends[1])),
            device_name: Some("phone".to_owned()),
        };
        let mut contacts = Contacts::default();
        contacts.look(1, lan(1), |_| unreachable!());
        let told = contacts.look(2, lan(2), |_| vec![one("worse", "guest"), one("bad", "lan")]);
        assert_eq!(
            told[0].what,
            "192.0.2.1 was kept from the listed address 198.51.100.7 by worse, bad"
        );
        assert_eq!(
            (&told[0].facts["device"], &told[0].facts["address"]),
            (&"192.0.2.1".into(), &"198.51.100.7".into())
        );
        let mut contacts = Contacts::default();
        contacts.look(1, lan(1), |_| unreachable!());
        let told = contacts.look(2, lan(2), |_| vec![one("worse", "guest")]);
        assert_eq!(told[0].what, "a device behind lan was kept from a listed address by worse");
        assert!(!told[0].facts.contains_key("device"));
    }

    #[test]
    fn lists_are_asked_for_the_time_since_the_last_look_and_only_where_there_is_something() {
        let mut contacts = Contacts::default();
        contacts.look(5, lan(1), |_| unreachable!());
        contacts.look(6, lan(1), |_| unreachable!());
        let mut asked = 0;
        contacts.look(9, lan(2), |since_ns| {
            asked = since_ns;
            Vec::new()
        });
        assert_eq!(asked, 6);
    }
}
