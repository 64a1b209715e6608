use super::*;

/// Devices as a router's kernel lists them: name, kind, lower, master; numbered from 1.
fn facts(devices: &[(&str, &str, u32, u32)]) -> Facts {
    let devices = devices.iter().zip(1..).map(|((name, kind, lower, master), ifindex)| Device {
        ifindex,
        name: (*name).to_owned(),
        hardware: match *kind {
            "ppp" => 512,
            "wireguard" | "tun" => 65534,
            _ => 1,
        },
        kind: (*kind).to_owned(),
        lower: *lower,
        master: *master,
        ..Device::default()
    });
    Facts { devices: devices.collect(), ..Facts::default() }
}

fn interface(name: &str, device: &str, role: Role) -> InterfacePlan {
    InterfacePlan {
        name: name.to_owned(),
        device: device.to_owned(),
        role,
        slot: 0,
        xdp: XdpWish::Auto,
        tc: TcWish::Auto,
    }
}

/// Devices of a place with what their packets start with.
fn at(place: &Place) -> Vec<(&str, Link)> {
    match place {
        Place::At(targets) => targets.iter().map(|t| (t.device.name.as_str(), t.link)).collect(),
        other => panic!("{other:?}"),
    }
}

fn reason(place: &Place) -> &str {
    match place {
        Place::Nowhere(reason) | Place::Within(reason) => reason,
        Place::At(_) => panic!("{place:?}"),
    }
}

#[test]
fn packets_start_as_the_hardware_type_says() {
    assert_eq!(link("eth0", 1, None), Ok(Link::Ethernet));
    assert_eq!(link("eth0", 1, Some("none")), Ok(Link::Ethernet));
    assert_eq!(link("eth0", 1, Some("mtk")), Ok(Link::Mtk));
    assert_eq!(link("pppoe-wan", 512, None), Ok(Link::Ip));
    assert_eq!(link("wg0", 65534, None), Ok(Link::Ip));
    let refused = link("eth0", 1, Some("qca")).unwrap_err();
    assert!(refused.contains("tags of kind qca: attach to the user ports"), "{refused}");
    assert!(link("can0", 280, None).unwrap_err().contains("hardware type 280"));
}

#[test]
fn a_bridge_is_entered_through_its_ports_and_classified_as_itself() {
    let facts = facts(&[
        ("br-lan", "bridge", 0, 0),
        ("lan1", "dsa", 4, 1),
        ("wlan0", "", 0, 1),
        ("eth0", "", 0, 0),
    ]);
    let found = places(&[interface("lan", "br-lan", Role::Lan)], &facts);
    assert_eq!(at(&found[0].xdp), [("lan1", Link::Ethernet), ("wlan0", Link::Ethernet)]);
    assert_eq!(at(&found[0].tc), [("br-lan", Link::Ethernet)]);
    let empty = Facts { devices: facts.devices[..1].to_vec(), ..Facts::default() };
    let found = places(&[interface("lan", "br-lan", Role::Lan)], &empty);
    assert_eq!(reason(&found[0].xdp), "bridge br-lan has no ports yet");
}

/// A swconfig router: one port of the processor, a VLAN for each side.
#[test]
fn vlans_of_one_port_are_interfaces_of_their_own() {
    let facts = facts(&[
        ("eth0", "", 0, 0),
        ("eth0.1", "vlan", 1, 4),
        ("eth0.2", "vlan", 1, 0),
        ("br-lan", "bridge", 0, 0),
    ]);
    let both = [interface("lan", "br-lan", Role::Lan), interface("wan", "eth0.2", Role::Wan)];
    let found = places(&both, &facts);
    assert_eq!(at(&found[0].xdp), [("eth0.1", Link::Ethernet)]);
    assert_eq!(at(&found[1].xdp), [("eth0.2", Link::Ethernet)]);
}

#[test]
fn a_frame_is_met_once_whichever_of_its_devices_are_named() {
    let facts = facts(&[("eth0", "", 0, 0), ("eth0.7", "vlan", 1, 0), ("eth1", "", 0, 0)]);
    let place = |first: (&str, Role), second: (&str, Role)| {
        let both = [interface("a", first.0, first.1), interface("b", second.0, second.1)];
        let found = places(&both, &facts);
        assert_eq!(at(&found[0].xdp).len(), 1);
        assert_eq!(at(&found[0].tc).len(), 1);
        found[1].clone()
    };
    // The same role: the shield below judges the frames as the one above would.
    let within = place(("eth0", Role::Wan), ("eth0.7", Role::Wan));
    assert_eq!(within.xdp, Place::Within("its frames are those of interface a on eth0".to_owned()));
    assert_eq!(within.tc, within.xdp);
    assert_eq!(place(("eth0", Role::Wan), ("eth0", Role::Wan)).xdp, within.xdp);
    // Another role: they would be judged as what they are not.
    let refused = place(("eth0", Role::Lan), ("eth0.7", Role::Wan));
    assert_eq!(
        reason(&refused.xdp),
        "eth0.7 shares its frames with eth0, which is interface a in role lan: only one of them \
         can have them"
    );
    // The VLAN alone was meant first: the port would have more than its share.
    assert!(matches!(place(("eth0.7", Role::Wan), ("eth0", Role::Wan)).xdp, Place::Nowhere(_)));
    assert_eq!(
        at(&place(("eth0", Role::Wan), ("eth1", Role::Wan)).xdp),
        [("eth1", Link::Ethernet)]
    );
}

#[test]
fn an_interface_that_wants_nothing_takes_nothing() {
    let facts = facts(&[("eth0", "", 0, 0), ("eth0.7", "vlan", 1, 0)]);
    let mut both = [interface("a", "eth0", Role::Lan), interface("b", "eth0.7", Role::Wan)];
    (both[0].xdp, both[0].tc) = (XdpWish::Off, TcWish::Off);
    let found = places(&both, &facts);
    assert_eq!((at(&found[0].xdp).len(), at(&found[0].tc).len()), (0, 0));
    assert_eq!(at(&found[1].xdp), [("eth0.7", Link::Ethernet)]);
}

#[test]
fn a_pppoe_session_is_met_on_its_ethernet_device_unless_others_are_too() {
    let mut facts = facts(&[("eth1", "", 0, 0), ("pppoe-wan", "ppp", 0, 0)]);
    facts.pppoe = Some("eth1".to_owned());
    let wan = [interface("wan", "pppoe-wan", Role::Wan)];
    let found = places(&wan, &facts);
    assert_eq!(at(&found[0].xdp), [("eth1", Link::Ethernet)]);
    assert_eq!(at(&found[0].tc), [("pppoe-wan", Link::Ip)]);
    // The modem's own network on the same cable.
    let both = [wan[0].clone(), interface("modem", "eth1", Role::Wan)];
    let found = places(&both, &facts);
    assert_eq!(reason(&found[1].xdp), "its frames are those of interface wan on eth1");
    assert!(reason(&found[1].tc).contains("shares its frames with pppoe-wan"), "{:?}", found[1].tc);

    facts.devices.push(Device { ifindex: 3, kind: "vlan".into(), lower: 1, ..Device::default() });
    assert_eq!(at(&places(&wan, &facts)[0].xdp), [("pppoe-wan", Link::Ip)], "a VLAN beside it");
    facts.devices.pop();
    facts.pppoe = None;
    assert_eq!(at(&places(&wan, &facts)[0].xdp), [("pppoe-wan", Link::Ip)], "which is not known");
}

#[test]
fn a_conduit_is_met_on_its_user_ports_when_nobody_reads_its_tags() {
    let mut facts = facts(&[
        ("eth0", "", 0, 0),
        ("lan1", "dsa", 1, 4),
        ("wan", "dsa", 1, 0),
        ("br-lan", "bridge", 0, 0),
    ]);
    let conduit = [interface("all", "eth0", Role::Lan)];
    for (tagger, expected) in [
        ("qca", vec![("lan1", Link::Ethernet), ("wan", Link::Ethernet)]),
        ("mtk", vec![("eth0", Link::Mtk)]),
        ("none", vec![("eth0", Link::Ethernet)]),
    ] {
        facts.tagging.insert(1, tagger.to_owned());
        assert_eq!(at(&places(&conduit, &facts)[0].xdp), expected, "{tagger}");
    }
    // Tagged frames and the frames of a user port are the same ones.
    let both = [interface("all", "eth0", Role::Lan), interface("wan", "wan", Role::Wan)];
    assert!(reason(&places(&both, &facts)[1].xdp).contains("wan shares its frames with eth0"));
    facts.tagging.insert(1, "qca".to_owned());
    facts.devices.truncate(1);
    let found = places(&conduit, &facts);
    assert!(reason(&found[0].xdp).contains("has no user ports"), "{found:?}");
}

#[test]
fn a_bond_is_met_as_itself_and_not_on_its_members_again() {
    let facts = facts(&[
        ("bond0", "bond", 0, 0),
        ("eth0", "", 0, 1),
        ("eth1", "", 0, 1),
        ("bond0.5", "vlan", 1, 0),
    ]);
    let all = [
        interface("wan", "bond0", Role::Wan),
        interface("member", "eth1", Role::Wan),
        interface("guest", "bond0.5", Role::Wan),
    ];
    let found = places(&all, &facts);
    assert_eq!(at(&found[0].xdp), [("bond0", Link::Ethernet)]);
    assert!(matches!(found[1].xdp, Place::Nowhere(_)), "{:?}", found[1].xdp);
    assert!(matches!(found[2].xdp, Place::Within(_)), "{:?}", found[2].xdp);
}

#[test]
fn the_other_end_of_a_cable_and_what_carries_a_tunnel_are_other_frames() {
    let facts = facts(&[
        ("veth0", "veth", 2, 0),
        ("veth1", "veth", 1, 0),
        ("wg0", "wireguard", 0, 0),
        ("gre0", "gre", 1, 0),
    ]);
    let all = [
        interface("a", "veth0", Role::Lan),
        interface("b", "veth1", Role::Wan),
        interface("c", "wg0", Role::Lan),
    ];
    let found = places(&all, &facts);
    assert_eq!(at(&found[1].xdp), [("veth1", Link::Ethernet)]);
    assert_eq!(at(&found[2].xdp), [("wg0", Link::Ip)]);
}

#[test]
fn a_port_that_has_its_own_shield_leaves_the_rest_of_its_bridge() {
    let facts = facts(&[("br-lan", "bridge", 0, 0), ("lan1", "dsa", 0, 1), ("lan2", "dsa", 0, 1)]);
    let both = [interface("desk", "lan2", Role::Lan), interface("lan", "br-lan", Role::Lan)];
    let found = places(&both, &facts);
    assert_eq!(at(&found[1].xdp), [("lan1", Link::Ethernet)]);
    // The bridge has frames of other ports too.
    assert!(matches!(found[1].tc, Place::Nowhere(_)), "{:?}", found[1].tc);
}
