//! What the schema says about the cost of each option is what the plans say.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;

/// What costs something where another option has it matter: section, option, the end of the file
/// before and after, and the cost.
#[rustfmt::skip]
const TOGETHER: &[(&str, &str, &str, &str, Change)] = {
    use Change::{Reload, Update};
    &[
        ("ddos", "syn_backlog", "option syn_validation 1\n", "option syn_validation 1\noption syn_backlog 9\n", Update),
        ("ddos", "syn_ratio", "option syn_validation 1\n", "option syn_validation 1\noption syn_ratio 9\n", Update),
        ("rule", "profile",
            "config rule x\nlist domain x.test\noption action mark\noption profile voice\n",
            "config rule x\nlist domain x.test\noption action mark\noption profile video\n",
            Update),
        ("interface", "inspect",
            "config interface c\noption device c\noption role lan\noption policy closed\n",
            "config interface c\noption device c\noption role lan\noption policy closed\noption inspect 0\n",
            Reload),
        ("blocklist", "entry", "config blocklist more\n", "config blocklist more\nMANY", Reload),
        ("blocklist", "enabled", "config blocklist more\nMANY", "config blocklist more\noption enabled 0\nMANY", Reload),
        ("blocklist", "action", "config blocklist more\nMANY", "config blocklist more\noption action observe\nMANY", Reload),
        ("allowlist", "entry", "config allowlist more\n", "config allowlist more\nMANY", Reload),
        ("allowlist", "enabled", "config allowlist more\nMANY", "config allowlist more\noption enabled 0\nMANY", Reload),
    ]
};

/// The same of what is in files: name and text of the file, and the section that names it.
#[rustfmt::skip]
const IN_FILES: &[(&str, &str, &str, &str, &str, Change)] = {
    use Change::{Reload, Update};
    &[
        ("blocklist", "file", "few", "192.0.2.7\n", "config blocklist more\nlist file FILE\n", Update),
        ("blocklist", "file", "many", "MANY", "config blocklist more\nlist file FILE\n", Reload),
        ("allowlist", "file", "few", "192.0.2.7\n", "config allowlist more\nlist file FILE\n", Update),
        ("allowlist", "file", "many", "MANY", "config allowlist more\nlist file FILE\n", Reload),
        ("domainlist", "file", "names", "a.test\n", "config domainlist more\nlist file FILE\n", Update),
        ("sluice", "app_file", "apps", "toys: toys.test\n", "option app_file FILE\n", Update),
        ("sluice", "country_dir", "de.zone", "192.0.2.0/24\n", "option country_dir DIR\n", Update),
    ]
};

/// More entries than a map without any has room for.
fn many(prefix: &str) -> String {
    (0..2_000).fold(String::new(), |mut text, n| {
        let _ = writeln!(text, "{prefix}2001:db8:{n:x}::1");
        text
    })
}

fn files() -> BTreeMap<(&'static str, &'static str), BTreeSet<Change>> {
    let dir = std::env::temp_dir().join(format!("sluice-costs-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let loaded = |text: &str| {
        let path = dir.join("sluice");
        std::fs::write(&path, text).unwrap();
        Plan::new(&Config::load(&path).unwrap().0, 7).unwrap()
    };
    std::fs::write(dir.join("empty"), "").unwrap();
    let empty = format!("list file {}\n", dir.join("empty").display());
    // Rules that need what is in the files of the main section.
    let base = SAMPLE
        .replace("\toption app_file /apps\n\toption country_dir /countries\n", "")
        .replace("list file /f\n", &empty)
        .replace("list file /s\n", &empty);
    let mut costs: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (kind, option, name, text, section, cost) in IN_FILES.iter().copied() {
        let path = dir.join(name);
        std::fs::write(&path, text.replace("MANY", &many(""))).unwrap();
        let filled = section
            .replace("FILE", &path.display().to_string())
            .replace("DIR", &dir.display().to_string());
        let (before, after) = if kind == "sluice" {
            let rule = match option {
                "app_file" => "config rule x\nlist app toys\n",
                _ => "config rule x\nlist country de\n",
            };
            let with = |main: &str| base.replacen("main\n", &format!("main\n{main}"), 1) + rule;
            // What was there before has another content.
            let old = filled.replace(&*dir.to_string_lossy(), &dir.join("old").to_string_lossy());
            std::fs::create_dir_all(dir.join("old")).unwrap();
            let other = text.replace("192.0.2", "198.51.100").replace("toys.test", "games.test");
            std::fs::write(dir.join("old").join(name), other).unwrap();
            (loaded(&with(&old)), loaded(&with(&filled)))
        } else {
            (loaded(&base), loaded(&format!("{base}{filled}")))
        };
        assert_eq!(before.change(&after), cost, "{kind}.{option}");
        costs.entry((kind, option)).or_default().insert(cost);
    }
    std::fs::remove_dir_all(&dir).unwrap();
    costs
}

/// R125: what `options.md` says about the cost of every option is what a reload makes of it.
#[test]
fn the_schema_says_of_every_option_what_changing_it_alone_costs() {
    let mut costs = files();
    for (kind, option, _, cost) in OPTIONS.iter().copied() {
        let kind = kind.split(' ').next().unwrap();
        costs.entry((kind, option)).or_default().insert(cost);
    }
    for (kind, option, before, after, cost) in TOGETHER.iter().copied() {
        let filled =
            |more: &str| plan(&format!("{SAMPLE}{}", more.replace("MANY", &many("list entry "))));
        let (before, after) = (filled(before), filled(after));
        assert_eq!(before.change(&after), cost, "{kind}.{option}");
        assert_eq!(after.change(&before), cost, "{kind}.{option}, back");
        costs.entry((kind, option)).or_default().insert(cost);
    }
    let options = SECTIONS
        .iter()
        .flat_map(|section| section.options.iter().map(|option| (section.kind, option)));
    let mut all = 0;
    for (kind, option) in options {
        let mut seen = costs.remove(&(kind, option.name)).expect("the table has every option");
        if seen.len() > 1 {
            seen.remove(&Change::None);
        }
        let said = (option.cost.usual, option.cost.most);
        let tried = (*seen.first().unwrap(), *seen.last().unwrap());
        assert_eq!(said, tried, "{kind}.{}", option.name);
        all += 1;
    }
    assert!(costs.is_empty() && all > 100, "{all}, {costs:?}");
}

#[test]
fn what_differs_is_named_once_with_what_it_costs() {
    let old = plan(SAMPLE);
    let told = |new: &Plan| -> Vec<(&str, Change)> {
        old.differences(new).iter().map(|part| (part.what, part.cost)).collect()
    };
    assert_eq!(told(&old), []);
    assert_eq!(told(&with("ddos", "syn_pps", "17")), [("ddos", Change::Update)]);
    assert_eq!(told(&with("rule", "domain", "x.test")), [("rule", Change::Update)]);
    assert_eq!(told(&with("interface", "xdp", "native")), [("interface", Change::Reattach)]);
    let flows = with("sluice", "flows", "401");
    assert_eq!(told(&flows), [("flows", Change::Reload), ("sizes of maps", Change::Reload)]);
}
