//! The shield in a driver, compiled by the kernel, on a machine that may have nothing but this program.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use sluice::config::Net;
use sluice::dataplane::{Dataplane, Hook, InterfacePlan, Objects, State, XdpWish};
use sluice::kernel::{Need, Report, Support};
use sluice_abi::counter::Counter;
use sluice_tests::bare::{alone, cable, device, injector};
use sluice_tests::frame::Frame;
use sluice_tests::plan::{interface, plan};
use sluice_tests::plane::{PinDir, without_programs};
use sluice_tests::wait;

const SYSCTL: &str = "/proc/sys/net/core/bpf_jit_enable";
const LISTED: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 8);

fn frame(source: Ipv4Addr) -> Vec<u8> {
    Frame::ethernet([0xff; 6], [4; 6])
        .ipv4(source, Ipv4Addr::new(203, 0, 113, 1))
        .udp(4000, 9)
        .payload(b"probe")
        .bytes()
}

/// R192: the agent's own look at the kernel switches the compiler on; on a plain MIPS kernel it is off before.
#[test]
fn a_kernel_with_a_compiler_uses_it_once_the_agent_has_looked() {
    if without_programs() {
        return;
    }
    let before = fs::read_to_string(SYSCTL).ok();
    let report = Report::of_this_kernel();
    let item = &report.items[Need::Jit as usize];
    println!("before: {before:?}, now: {:?} {:?}", item.support, item.note);
    assert_eq!(item.support, Support::Yes);
    // Hidden in containers.
    if let Some(before) = before {
        assert_ne!(fs::read_to_string(SYSCTL).unwrap().trim(), "0");
        if before.trim() == "0" {
            assert_eq!(item.note.as_deref(), Some("was off: switched on"));
        }
    }
}

/// R58, R192, R161: frames of a cable through the driver's hook.
#[test]
fn the_shield_runs_in_the_driver_of_a_cable_and_counts_every_frame_once() {
    if without_programs() {
        return;
    }
    alone(|| {
        cable(["wan", "far"]);
        let pins = PinDir::unmade();
        let native = InterfacePlan { xdp: XdpWish::Native, ..interface("wan", 0) };
        let plan = plan(&pins, vec![native]);
        let report = Report::of_this_kernel();
        let (mut dataplane, features) =
            Dataplane::start(&plan, Objects::embedded(), report).unwrap();
        for feature in &features {
            println!("{feature}");
            // An interpreted program would be a reason.
            let degraded = feature.hook == Hook::Tc && !report.support(Need::Tcx).is_yes();
            let expected = if degraded { State::Degraded } else { State::Active };
            assert_eq!(feature.state, expected, "{feature}");
            assert_eq!(feature.reasons.is_empty(), !degraded, "{feature}");
        }
        assert_ne!(device("wan").xdp.native, 0);
        dataplane.block(Net::host(IpAddr::V4(LISTED)), 0, 0).unwrap();
        let count = |counter| dataplane.totals.count(0, counter).unwrap();
        let (injector, passed) = (injector(&device("far")), count(Counter::XdpPass));
        for _ in 0..50 {
            injector.send(&frame(LISTED)).unwrap();
            injector.send(&frame(OTHER)).unwrap();
        }
        wait::until("every frame was counted", Duration::from_secs(10), || {
            let counted = (count(Counter::XdpDropHost), count(Counter::XdpPass) - passed);
            Ok((counted.0 >= 50 && counted.1 >= 50).then_some(()))
        })
        .unwrap();
        assert_eq!(count(Counter::XdpDropHost), 50);
        assert_eq!(count(Counter::XdpPass) - passed, 50);
        // The classifier sees what the shield passed.
        assert_eq!(count(Counter::TcUnknown), 50);
        dataplane.stop(false).unwrap();
        assert_eq!(device("wan").xdp.native, 0);
    });
}
