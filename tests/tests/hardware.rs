//! The reduced shield: what it drops, and its way into a network card that takes programs. Needs no other program, so
//! it runs on every machine.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::IpAddr;
use std::os::fd::AsFd as _;

use aya::maps::{Array, HashMap, MapData};
use aya::programs::{TestRun as _, Xdp};
use aya::{EbpfLoader, TestRunOptions};
use sluice::config::Net;
use sluice::dataplane::{
    Dataplane, DataplanePlan, FeatureState, Hook, InterfacePlan, Objects, State, TcWish, XdpWish,
};
use sluice::kernel::Report;
use sluice::sys::bpf;
use sluice_abi::attach::Role;
use sluice_abi::device::Total;
use sluice_abi::flow::Addr;
use sluice_abi::names;
use sluice_tests::bare::{Card, alone, foreign_program};
use sluice_tests::frame::{Frame, tcp_flag};
use sluice_tests::packets::{XDP_DROP, XDP_PASS};
use sluice_tests::plan::{interface, plan};
use sluice_tests::plane::{PinDir, without_programs};
use sluice_tests::skip::skipped;

fn without_card() -> bool {
    if without_programs() {
        return true;
    }
    let missing = !Card::exists();
    if missing {
        skipped("this kernel has no netdevsim");
    }
    missing
}

fn planned(pins: &PinDir, device: &str, xdp: XdpWish) -> DataplanePlan {
    let interface =
        InterfacePlan { name: "wan".to_owned(), xdp, tc: TcWish::Off, ..interface(device, 0) };
    plan(pins, vec![interface])
}

fn start(plan: &DataplanePlan) -> (Dataplane, FeatureState) {
    let (dataplane, features) =
        Dataplane::start(plan, Objects::embedded(), Report::of_this_kernel()).unwrap();
    let shield = features.into_iter().find(|feature| feature.hook == Hook::Xdp).unwrap();
    (dataplane, shield)
}

fn hosts(last: impl IntoIterator<Item = u8>) -> Vec<Net> {
    last.into_iter().map(|last| Net::host(IpAddr::from([198, 51, 100, last]))).collect()
}

/// R194: what the program does, with ordinary maps.
#[test]
fn the_reduced_shield_drops_listed_addresses_and_counts_them_in_its_own_maps() {
    if without_programs() {
        return;
    }
    Report::of_this_kernel();
    let listed: IpAddr = "198.51.100.7".parse().unwrap();
    let other: IpAddr = "198.51.100.8".parse().unwrap();
    let listed6: IpAddr = "2001:db8::7".parse().unwrap();
    let other6: IpAddr = "2001:db8::8".parse().unwrap();
    for (name, at) in [(names::XDP_DEVICE_WAN, 0), (names::XDP_DEVICE_LAN, 1)] {
        // The maps of the shared code are pinned, though these programs do not use them.
        let pins = PinDir::new().unwrap();
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .default_map_pin_directory(pins.path())
            .map_max_entries(names::DEVICE_HOSTS, 2)
            .load(Objects::embedded().xdp_device)
            .unwrap();
        let mut hosts: HashMap<MapData, Addr, u64> =
            ebpf.take_map(names::DEVICE_HOSTS).unwrap().try_into().unwrap();
        let totals: Array<MapData, u64> =
            ebpf.take_map(names::DEVICE_TOTALS).unwrap().try_into().unwrap();
        for addr in [listed, listed6] {
            hosts.insert(Addr::from(addr), 0, 0).unwrap();
        }
        let program: &mut Xdp = ebpf.program_mut(name).unwrap().try_into().unwrap();
        program.load().unwrap();
        assert!(bpf::prog_info(program.fd().unwrap().as_fd()).unwrap().jited_len > 0, "{name}");
        let program: &Xdp = ebpf.program(name).unwrap().try_into().unwrap();
        let run = |frame: &[u8]| {
            let mut options = TestRunOptions::new();
            options.data_in = Some(frame);
            program.test_run(options).unwrap().return_value
        };
        let mut bytes = 0;
        let mut drops = 0;
        for (hit, miss) in [(listed, other), (listed6, other6)] {
            // The address that this side looks up is the listed one, then the other one is.
            for (src, dst) in [(hit, miss), (miss, hit)] {
                for frame in [
                    Frame::ethernet([2; 6], [4; 6]),
                    Frame::ethernet([2; 6], [4; 6]).vlan(7),
                    Frame::ethernet([2; 6], [4; 6]).vlan(7).pppoe(9),
                ] {
                    let frame = frame.addresses(src, dst).tcp(1, 443, tcp_flag::SYN).bytes();
                    let is_listed = [src, dst][at] == hit;
                    let expected = if is_listed { XDP_DROP } else { XDP_PASS };
                    assert_eq!(run(&frame), expected, "{name}: {src} to {dst}");
                    if is_listed {
                        drops += 1;
                        bytes += frame.len() as u64;
                    }
                }
            }
        }
        let arp = [&[2; 6][..], &[4; 6], &[0x08, 0x06], &[0; 46]].concat();
        assert_eq!(run(&arp), XDP_PASS);
        assert_eq!(totals.get(&(Total::Packets as u32), 0).unwrap(), drops);
        assert_eq!(totals.get(&(Total::Bytes as u32), 0).unwrap(), bytes);
        assert_eq!(hosts.get(&Addr::from(listed), 0).unwrap(), drops / 2, "each by itself");
        assert_eq!(hosts.get(&Addr::from(listed6), 0).unwrap(), drops / 2);
    }
}

/// Blocks these of the first five addresses and no other.
fn block(dataplane: &mut Dataplane, wanted: &[Net]) {
    for net in hosts(1..=5) {
        if wanted.contains(&net) {
            dataplane.block(net, 0, 0).unwrap();
        } else {
            dataplane.unblock(net).unwrap();
        }
    }
}

/// R194, R58.
#[test]
fn a_card_holds_listed_addresses_above_the_whole_shield() {
    if without_card() {
        return;
    }
    alone(|| {
        let (card, pins) = (Card::new(), PinDir::unmade());
        let plan = planned(&pins, &card.device.name, XdpWish::Auto);
        let (mut dataplane, shield) = start(&plan);
        assert_eq!((shield.state, shield.rung, shield.card), (State::Active, "native", None));
        let xdp = card.now().xdp;
        assert!(xdp.native != 0 && xdp.hardware != 0 && xdp.native != xdp.hardware, "{xdp:?}");
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 0)), "nothing is listed yet");

        // One fits, then more than fit: the simulator has room for two.
        block(&mut dataplane, &hosts([1]));
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 1)));
        block(&mut dataplane, &hosts(1..=5));
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 2)));
        // Nobody is dropped in the card who may pass.
        let allowed = [(hosts([3])[0], Role::Wan.bit())];
        let blocklist = dataplane.blocklist.as_mut().unwrap();
        blocklist.sync_allowed(&allowed).unwrap();
        block(&mut dataplane, &hosts([3, 4]));
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 1)));
        dataplane.enable(false).unwrap();
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 0)), "the kill switch");
        dataplane.enable(true).unwrap();
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 1)));
        // A round of looking changes nothing.
        dataplane.reattach().unwrap();
        assert_eq!((card.now().xdp, dataplane.in_hardware("wan")), (xdp, Some((0, 0, 1))));
        block(&mut dataplane, &[]);
        assert_eq!(dataplane.in_hardware("wan"), Some((0, 0, 0)));

        dataplane.stop(false).unwrap();
        let xdp = card.now().xdp;
        assert_eq!((xdp.native, xdp.hardware), (0, 0));
    });
}

/// R194, R127.
#[test]
fn what_a_killed_agent_left_in_a_card_is_replaced_and_removed_in_the_end() {
    if without_card() {
        return;
    }
    alone(|| {
        let (card, pins) = (Card::new(), PinDir::unmade());
        let plan = planned(&pins, &card.device.name, XdpWish::Hardware);
        let (mut first, shield) = start(&plan);
        assert_eq!(shield.state, State::Active, "{shield}");
        block(&mut first, &hosts([1, 2]));
        let before = card.now().xdp.hardware;
        drop(first);
        assert_eq!(card.now().xdp.hardware, before, "it stays");
        let (second, shield) = start(&plan);
        assert_eq!(shield.state, State::Active, "{shield}");
        let after = card.now().xdp.hardware;
        assert!(after != 0 && after != before);
        assert_eq!(second.in_hardware("wan"), Some((0, 0, 2)), "the lists are still there");
        drop(second);
        Dataplane::clear(pins.path()).unwrap();
        assert_eq!(card.now().xdp.hardware, 0);
    });
}

/// R60.
#[test]
fn a_foreign_program_in_a_card_is_left_alone_and_named() {
    if without_card() {
        return;
    }
    alone(|| {
        let (card, pins) = (Card::new(), PinDir::unmade());
        let foreign = foreign_program(&card);
        let id = bpf::prog_info(foreign.as_fd()).unwrap().id;
        let (dataplane, shield) = start(&planned(&pins, &card.device.name, XdpWish::Hardware));
        assert_eq!((shield.state, shield.rung), (State::Degraded, "native"), "{shield}");
        assert!(shield.reasons[0].contains(&format!("program {id} of somebody else")), "{shield}");
        dataplane.stop(false).unwrap();
        assert_eq!(card.now().xdp.hardware, id);
    });
}

/// R194, R58: the word of the configuration is kept, the shield works without.
#[test]
fn a_device_without_such_a_card_says_so_where_it_was_asked_for() {
    if without_programs() {
        return;
    }
    alone(|| {
        let pins = PinDir::unmade();
        let (dataplane, shield) = start(&planned(&pins, "lo", XdpWish::Hardware));
        assert_eq!((shield.state, shield.rung), (State::Degraded, "generic"), "{shield}");
        let said = shield.reasons.iter().find(|reason| reason.starts_with("hardware: lo: "));
        assert!(
            said.is_some_and(|text| text.contains("takes no maps into its hardware")),
            "{shield}"
        );
        assert_eq!(dataplane.in_hardware("wan"), None);
        dataplane.stop(false).unwrap();

        let (dataplane, shield) = start(&planned(&pins, "lo", XdpWish::Auto));
        assert!(!shield.reasons.iter().any(|reason| reason.contains("hardware")), "{shield}");
        assert!(shield.card.is_some(), "known to whoever asks");
        dataplane.stop(false).unwrap();
    });
}
