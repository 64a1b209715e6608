//! What the scripts of the packages do to a router.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::Directory;
use super::router::Router;
use crate::run;

/// What uci-defaults make of it.
const NAMED: &str = "sluice.main=sluice
sluice.main.enabled=1
sluice.wan=interface
sluice.wan.device=wan
sluice.wan.role=wan
sluice.lan=interface
sluice.lan.device=br-lan
sluice.lan.role=lan
";
/// What procd is told at a start.
const STARTED: &str = "open_service sluice
open_instance
command /usr/sbin/sluice run
file /usr/sbin/sluice
respawn 60 5 0
term_timeout 15
stdout 1
stderr 1
close_instance
reload_trigger sluice system
close_service
";

#[test]
fn an_installed_ipk_runs_and_a_removed_one_leaves_nothing() {
    let Some(router) = Router::new("ipk-life") else { return };
    let before = router.tree();
    router.install_ipk();
    assert_eq!(router.take("procd"), STARTED);
    assert_eq!(router.take("calls"), "sluice config check\n");
    assert_eq!(router.take("users"), "sluice:sluice\n");
    assert_eq!(router.options(), NAMED);
    for link in ["S18sluice", "K91sluice"] {
        let target = std::fs::read_link(router.path("etc/rc.d").join(link)).unwrap();
        assert_eq!(target, Path::new("../init.d/sluice"), "{link}");
    }
    assert!(!router.path("etc/uci-defaults/90-sluice").exists());

    // A crash has left this.
    router.write("sys/fs/bpf/sluice/link", "", 0o600);
    router.write("var/run/sluice/control.sock", "", 0o600);
    router.remove_ipk();
    assert_eq!(router.take("procd"), "kill sluice\n");
    let tables = "nft delete table inet sluice\nnft delete table inet sluice_syn\n\
                  nft delete table inet sluice_offload\nnft delete table inet sluice_shield\n";
    assert_eq!(router.take("calls"), tables);
    let mut after = router.tree();
    after.retain(|path| !path.starts_with("/var"));
    assert_eq!(after, before);
}

#[test]
fn an_installed_apk_runs_and_a_removed_one_leaves_nothing() {
    let Some(router) = Router::new("apk-life") else { return };
    let before = router.tree();
    let apk = router.install_apk("post-install");
    assert_eq!(router.take("procd"), STARTED);
    assert_eq!(router.take("users"), "sluice:sluice\n");
    assert_eq!(router.options(), NAMED);
    assert!(router.path("etc/rc.d/S18sluice").exists());
    router.remove_apk(&apk);
    assert_eq!(router.take("procd"), "kill sluice\n");
    assert_eq!(router.tree(), before);
}

#[test]
fn an_upgrade_keeps_the_users_configuration_and_choice_of_boot() {
    let Some(router) = Router::new("upgrade") else { return };
    let changed = "config sluice 'main'\n\toption enabled '0'\n";
    let users = "sluice.main=sluice\nsluice.up=interface\nsluice.up.device=eth7\nsluice.up.role=wan\n\
                 sluice.lan=interface\nsluice.lan.device=br-guest\nsluice.lan.role=lan\n";
    router.install_ipk();
    router.write("etc/config/sluice", changed, 0o600);
    router.write("uci", format!("network.wan.device=wan\n{users}"), 0o644);
    router.install_ipk();
    assert_eq!(router.read("etc/config/sluice"), changed);
    assert_eq!(router.options(), users);

    router.quiet("/etc/init.d/sluice disable");
    router.install_apk("post-upgrade");
    assert_eq!(router.read("etc/config/sluice"), changed);
    assert_eq!(router.options(), users);
    assert!(!router.path("etc/rc.d/S18sluice").exists(), "an upgrade enables a disabled service");
}

#[test]
fn an_image_that_is_built_gets_no_state_of_the_machine_that_builds_it() {
    let Some(router) = Router::new("image") else { return };
    router.install_ipk();
    router.write("sys/fs/bpf/sluice/link", "", 0o600);
    router.take("calls");
    router.quiet("IPKG_INSTROOT=/image /usr/lib/opkg/info/sluice.postrm remove");
    router.quiet("IPKG_INSTROOT=/image /usr/lib/opkg/info/sluice.postinst configure");
    router.quiet("/usr/lib/opkg/info/sluice.postrm upgrade");
    assert_eq!(router.take("calls"), "");
    assert!(router.path("sys/fs/bpf/sluice/link").exists());
}

#[test]
fn the_jail_and_what_needs_it_are_there_when_ujail_is() {
    let Some(router) = Router::new("jail") else { return };
    router.install_ipk();
    router.take("procd");
    router.write("sbin/ujail", "#!/bin/sh\n", 0o755);
    router.quiet("/etc/init.d/sluice start");
    let jail =
        "jail sluice\ncapabilities /etc/capabilities/sluice.json\nno_new_privs 1\nclose_instance\n";
    assert_eq!(router.take("procd"), STARTED.replace("close_instance\n", jail));
    std::fs::remove_file(router.path("etc/capabilities/sluice.json")).unwrap();
    router.quiet("/etc/init.d/sluice start");
    assert_eq!(router.take("procd"), STARTED);
}

#[test]
fn a_reload_is_a_signal_to_an_agent_that_runs_and_a_start_otherwise() {
    let Some(router) = Router::new("reload") else { return };
    router.install_ipk();
    router.take("procd");
    router.write("running/sluice", "", 0o644);
    router.quiet("/etc/init.d/sluice reload");
    assert_eq!(router.take("procd"), "signal sluice * HUP\n");
    std::fs::remove_file(router.path("running/sluice")).unwrap();
    router.quiet("/etc/init.d/sluice reload");
    assert_eq!(router.take("procd"), STARTED);
}

#[test]
fn an_agent_whose_configuration_is_wrong_is_not_started_again_and_again() {
    let Some(router) = Router::new("wrong") else { return };
    router.install_ipk();
    router.take("procd");
    router.take("calls");
    router.write("etc/config/sluice", "wrong", 0o600);
    // The trigger starts it once the configuration is another.
    router.quiet("/etc/init.d/sluice start");
    let triggers = "open_service sluice\nreload_trigger sluice system\nclose_service\n";
    assert_eq!(router.take("procd"), triggers);
    let calls = router.take("calls");
    assert!(calls.contains("logger -t sluice -p daemon.err not started"), "{calls}");
    // One that runs has a configuration that works: procd hears nothing, and lets it run.
    router.write("running/sluice", "", 0o644);
    assert_eq!(router.sh("/etc/init.d/sluice start"), (false, String::new()));
    assert_eq!(router.take("procd"), "open_service sluice\n");
    router.quiet("/etc/init.d/sluice restart");
    assert_eq!(router.take("procd"), format!("kill sluice\n{triggers}"));
}

#[test]
fn commands_of_the_init_script_are_those_of_the_agent() {
    let Some(router) = Router::new("commands") else { return };
    router.install_ipk();
    router.take("calls");
    for (line, call) in [
        ("status", "sluice status\n"),
        ("doctor", "sluice doctor\n"),
        ("why example.org", "sluice why example.org\n"),
        ("pause 192.0.2.7 --for 1h", "sluice pause 192.0.2.7 --for 1h\n"),
        ("resume 192.0.2.7", "sluice resume 192.0.2.7\n"),
    ] {
        router.quiet(&format!("/etc/init.d/sluice {line}"));
        assert_eq!(router.take("calls"), call);
    }
}

#[test]
fn devices_are_named_where_none_is_and_a_second_time_nothing_changes() {
    let Some(router) = Router::new("defaults") else { return };
    let script = run::root().join("openwrt-package/sluice/files/sluice.defaults");
    let script = std::fs::read(script).unwrap();
    let wan = |device: &str| {
        format!("sluice.wan=interface\nsluice.wan.device={device}\nsluice.wan.role=wan\n")
    };
    let lan = "sluice.lan=interface\nsluice.lan.device=br-lan\nsluice.lan.role=lan\n";
    #[rustfmt::skip]
    let cases = [
        ("a session", "network.wan.proto=pppoe\nnetwork.wan.device=dsl0\n", wan("pppoe-wan")),
        ("before 21.02", "network.wan.ifname=eth0.2\nnetwork.lan.type=bridge\nnetwork.lan.ifname=eth0.1 eth1\n", wan("eth0.2") + lan),
        ("an alias", "network.wan.device=@lan\nnetwork.lan.device=br-lan\n", lan.to_owned()),
        ("no wan", "network.lan.device=br-lan\n", lan.to_owned()),
        ("a name that no device has", "network.wan.device=longer-than-any-device\n", String::new()),
        ("a section of another kind", "sluice.wan=blocklist\nnetwork.wan.device=wan\n", String::new()),
    ];
    for (name, network, expected) in cases {
        router.write("uci", format!("sluice.main=sluice\n{network}"), 0o644);
        router.write("etc/uci-defaults/90-sluice", &script, 0o755);
        for _ in 0..2 {
            router.quiet("/etc/uci-defaults/90-sluice");
            let kept =
                if network.starts_with("sluice.wan") { "sluice.wan=blocklist\n" } else { "" };
            assert_eq!(router.options(), format!("sluice.main=sluice\n{kept}{expected}"), "{name}");
        }
    }
    // Nothing at all is there, not even the file.
    router.write("uci", "network.lan.device=br-lan\n", 0o644);
    router.quiet("/etc/uci-defaults/90-sluice");
    assert_eq!(router.options(), format!("sluice.main=sluice\n{lan}"));
    assert!(router.path("etc/config/sluice").exists());
}

/// Debian's own check; the agent is nowhere while it runs, so another program stands for it.
#[test]
fn the_unit_for_systemd_is_one() {
    let Some(analyze) = run::find("systemd-analyze") else {
        println!("SKIPPED: no systemd-analyze");
        return;
    };
    let directory = Directory::new("unit");
    let unit = std::fs::read_to_string(run::root().join("config/sluice.service")).unwrap();
    let path = directory.path().join("sluice.service");
    std::fs::write(&path, unit.replace("/usr/sbin/sluice", "/bin/true")).unwrap();
    let output = Command::new(analyze).arg("verify").arg(&path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.is_empty(), "{text}");
}

/// Both confine the same program.
#[test]
fn the_unit_and_the_jail_have_the_same_capabilities() {
    let unit = std::fs::read_to_string(run::root().join("config/sluice.service")).unwrap();
    let jail = run::root().join("openwrt-package/sluice/files/sluice.capabilities.json");
    let jail: BTreeMap<String, Vec<String>> =
        serde_json::from_slice(&std::fs::read(jail).unwrap()).unwrap();
    let bounding = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let bounding: Vec<&str> = bounding.unwrap().split(' ').collect();
    let sets: Vec<&str> = jail.keys().map(String::as_str).collect();
    assert_eq!(sets, ["ambient", "bounding", "effective", "inheritable", "permitted"]);
    for (set, names) in &jail {
        assert_eq!(names, &bounding, "{set}");
    }
}
