//! Every program through the verifier of this kernel, for every kind of interface it is made for.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "helpers of tests")]

use std::os::fd::{AsFd as _, BorrowedFd};

use aya::programs::ProgramInfo;
use sluice::dataplane::object::Objects;
use sluice::sys::bpf;
use sluice_abi::attach::{Link, Role};
use sluice_abi::names;
use sluice_tests::plane::{FastPath, Shield, Side, load_shield, without_programs};

/// Instructions that the verifier may walk, all paths together; the kernel's limit is a million, on
/// 5.15 as on newer ones, and its time is the router's boot time.
const VERIFIED_MAX: u32 = 50_000;

const LINKS: [Link; 3] = [Link::Ethernet, Link::Ip, Link::Mtk];

fn check(name: &str, kind: &str, info: &ProgramInfo, fd: BorrowedFd<'_>) {
    let verified = info.verified_instruction_count().unwrap();
    let translated = info.size_translated().unwrap() / 8;
    let jited = bpf::prog_info(fd).unwrap().jited_len;
    let maps = info.map_ids().unwrap().unwrap().len();
    println!(
        "{name:<12} {kind:<14} {translated:>5} instructions, {verified:>6} verified, {jited:>5} \
         bytes of machine code, {maps} maps"
    );
    assert!(verified < VERIFIED_MAX, "{name} for {kind}: {verified} verified instructions");
    assert!(translated > 100, "{name} for {kind} does next to nothing");
    assert!(jited > 0, "{name} for {kind} is interpreted");
    // Where the kernel has no tracepoints the loader takes it for one that knows no names.
    assert!(info.name_as_str().is_none_or(|known| known.is_empty() || known == name));
}

fn map_names(info: &ProgramInfo) -> Vec<String> {
    let ids = info.map_ids().unwrap().unwrap();
    let mut names: Vec<_> = aya::maps::loaded_maps()
        .filter_map(Result::ok)
        .filter(|map| ids.contains(&map.id()))
        .map(|map| map.name_as_str().unwrap_or_default().to_owned())
        .filter(|name| name != ".rodata")
        .collect();
    names.sort();
    names
}

#[test]
fn the_shield_passes_the_verifier_and_uses_its_maps() {
    if without_programs() {
        return;
    }
    for link in LINKS {
        for role in [Role::Lan, Role::Wan] {
            let shield = Shield::new(role, link);
            let (info, fd) = (shield.program().info().unwrap(), shield.program().fd().unwrap());
            let kind = format!("{link:?} {}", role.name());
            check(names::XDP_SHIELD, &kind, &info, fd.as_fd());
            let maps = map_names(&info);
            if maps.iter().all(String::is_empty) {
                // Nameless, as the programs are then.
                assert!(maps.len() >= 8, "{kind}: {} maps", maps.len());
                continue;
            }
            for name in [names::SETTINGS, names::TOTALS, names::BLOCK_HOSTS, names::BLOCK_NETS] {
                assert!(maps.iter().any(|map| map == name), "{kind}: no {name} in {maps:?}");
            }
        }
    }
}

#[test]
fn the_fast_path_passes_the_verifier_and_uses_its_maps() {
    if without_programs() {
        return;
    }
    for link in LINKS {
        let path = FastPath::new(link);
        let sides = [(Side::In, names::TC_FLOW_IN), (Side::Out, names::TC_FLOW_OUT)];
        for (side, name) in sides {
            let (info, fd) = (path.program(side).info().unwrap(), path.program(side).fd().unwrap());
            check(name, &format!("{link:?}"), &info, fd.as_fd());
            let maps = map_names(&info);
            let is_nameless = maps.iter().all(String::is_empty);
            assert!(
                is_nameless || maps.iter().any(|map| map == names::FLOWS),
                "no FLOWS in {maps:?}"
            );
        }
    }
}

/// R53, R193: a kernel without the helpers that make SYN cookies takes the shield all the same,
/// because it never walks as far as their calls.
#[test]
fn a_kernel_without_syn_cookies_takes_the_shield() {
    /// `call` of `bpf_tcp_raw_gen_syncookie_ipv4` and the same for IPv6; no kernel has the other.
    const HELPERS: [i32; 2] = [204, 205];
    const UNKNOWN: i32 = 0x7000;
    if without_programs() {
        return;
    }
    let call = |helper: i32| {
        let number = helper.to_ne_bytes();
        [0x85, 0, 0, 0, number[0], number[1], number[2], number[3]]
    };
    let mut object = Objects::embedded().xdp_shield.to_vec();
    let mut changed = 0;
    for at in (0..object.len() - 7).step_by(8) {
        if HELPERS.iter().any(|helper| object[at..at + 8] == call(*helper)) {
            object[at..at + 8].copy_from_slice(&call(UNKNOWN));
            changed += 1;
        }
    }
    assert!(changed >= HELPERS.len(), "{changed} calls");
    load_shield(&object, false).unwrap();
    let refused = load_shield(&object, true).unwrap_err().to_string();
    println!("with cookies: {}", refused.lines().next().unwrap_or_default());
}
