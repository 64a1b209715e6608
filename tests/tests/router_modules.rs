//! R158: the agent without each of the kernel modules that the package asks for. Only machines of `cargo xtask vm` can
//! lose modules: nobody else needs theirs.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sluice_tests::agent::{Agent, Setup};
use sluice_tests::report::{Feature, Status};
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{self, Family, fetch};
use sluice_tests::skip::{skipped, without_root};

const LIMIT: Duration = Duration::from_secs(60);
/// Where the machine's first process has its modules from.
const MODULES: &str = "/modules";

/// Modules that are gone until this is dropped.
struct Without(Vec<String>);

impl Without {
    /// Takes modules out, those that use others first.
    fn new(names: &[&str]) -> Self {
        let mut gone = Self(Vec::new());
        for name in names {
            let output = Command::new("rmmod").arg(name).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            gone.0.push((*name).to_owned());
        }
        gone
    }
}

impl Drop for Without {
    fn drop(&mut self) {
        for name in self.0.iter().rev() {
            let file =
                std::fs::read_dir(MODULES).into_iter().flatten().flatten().find(|file| {
                    file.file_name().to_string_lossy().ends_with(&format!("-{name}.ko"))
                });
            // The tests that need it say so when it is missing.
            let _loaded = file.map(|file| Command::new("insmod").arg(file.path()).status());
        }
    }
}

fn feature(status: &Status, name: &str) -> Feature {
    status.features.iter().find(|feature| feature.name == name).unwrap().clone()
}

#[test]
fn without_a_module_the_agent_does_the_rest_and_says_what_is_missing() {
    if without_root() {
        return;
    }
    let loaded = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let is_loaded = |name: &str| loaded.lines().any(|line| line.starts_with(&format!("{name} ")));
    if !Path::new(MODULES).is_dir() || !is_loaded("nft_queue") || !is_loaded("cls_bpf") {
        skipped("not a machine of its own whose kernel has these as modules");
        return;
    }
    let world = Router::new(Build::default()).unwrap();
    let (_dns, _web) = service::named(&world, &["news.test", "ads.test"]).unwrap();
    let setup = Setup::default().blocklist("bad", &["198.51.100.7"]);
    let mut agent = Agent::start(&world, setup.rule("ads", "block", &["ads.test"])).unwrap();
    let client = world.client();
    let reaches = |name: &str, limit: Duration| {
        fetch(client, Family::V4, &format!("https://{name}/"), limit).unwrap().is_success()
    };
    let filters = || !reaches("ads.test", Duration::from_secs(4));
    let is_shield_up = |status: &Status| feature(status, "shield wan").state == "active";
    let doctor = |agent: &Agent| {
        let mut doctor = world.netns.command(agent.program().to_str().unwrap());
        String::from_utf8(doctor.arg("doctor").output().unwrap().stdout).unwrap()
    };
    assert!(reaches("news.test", LIMIT) && filters(), "with all of them");

    let mut step = |missing: &[&str], check: &dyn Fn(&Agent, &Status)| {
        assert!(agent.stop().unwrap().success());
        let gone = Without::new(missing);
        agent.start_again(&world).unwrap();
        let status = agent.status().unwrap();
        assert!(is_shield_up(&status), "{missing:?}: {status:#?}");
        assert!(reaches("news.test", LIMIT), "{missing:?}: {status:#?}");
        check(&agent, &status);
        assert!(agent.stop().unwrap().success());
        drop(gone);
        agent.start_again(&world).unwrap();
    };

    step(&["nf_conntrack_netlink"], &|agent, status| {
        assert!(filters(), "{status:#?}");
        let inspection = feature(status, "inspection");
        assert_eq!(inspection.state, "degraded", "{inspection:?}");
        assert!(
            inspection.reasons.join(" ").contains("kmod-nf-conntrack-netlink"),
            "{inspection:?}"
        );
        assert!(doctor(agent).contains("kmod-nf-conntrack-netlink"));
    });
    step(&["nft_queue"], &|_, status| {
        assert!(filters(), "{status:#?}");
        let inspection = feature(status, "inspection");
        assert_eq!((&*inspection.state, &*inspection.rung), ("degraded", "iptables-nft"));
        assert!(inspection.reasons.join(" ").contains("kmod-nft-queue"), "{inspection:?}");
    });
    step(&["nft_queue", "xt_NFQUEUE", "nfnetlink_queue"], &|agent, status| {
        let inspection = feature(status, "inspection");
        assert_eq!(inspection.state, "failed", "{inspection:?}");
        assert!(inspection.reasons.join(" ").contains("kmod-"), "{inspection:?}");
        assert!(reaches("ads.test", LIMIT), "what nobody can inspect passes: {status:#?}");
        assert!(doctor(agent).contains("kmod-nfnetlink-queue"));
    });
    step(&["cls_bpf", "sch_ingress"], &|agent, status| {
        assert!(filters(), "{status:#?}");
        let path = feature(status, "fast path wan");
        if path.rung != "tcx" {
            assert_eq!((&*path.state, &*path.rung), ("failed", "queue_only"), "{path:?}");
        }
        let doctor = doctor(agent);
        assert!(
            doctor.contains("kmod-sched-core") && doctor.contains("kmod-sched-bpf"),
            "{doctor}"
        );
    });
    assert!(filters(), "with all of them again");
    let status = agent.status().unwrap();
    assert_eq!(feature(&status, "inspection").rung, "nft", "{status:#?}");
}
