use super::*;

const FILE: &str = "config sluice 'main'\n\nconfig rule 'mine'\n\tlist domain 'x.test'\n";
const NOON: Moment = Moment(1_795_262_400);

fn page(text: &str) -> Page {
    Page { editor: Editor::new(text.as_bytes()).unwrap(), keeps_numbers: false }
}

fn text(page: &Page) -> &str {
    str::from_utf8(page.editor.text()).unwrap()
}

fn wish(verb: Verb, subject: &str, device: &str) -> Wish {
    Wish {
        verb,
        subject: (!subject.is_empty()).then(|| subject.parse().unwrap()),
        device: (!device.is_empty()).then(|| device.parse().unwrap()),
        until: None,
    }
}

const MAC: &str = "02:00:5e:10:00:01";

#[test]
fn a_decision_is_a_section_as_a_person_would_write_it() {
    let mut page = page(FILE);
    let timed = Wish { until: Some(NOON), ..wish(Verb::Allow, "Ads.Example.com.", MAC) };
    let name = page.write(&timed).unwrap();
    assert_eq!(name, "by_hand_allow_ads_example_com_02_00_5e_10_00_01");
    let added = format!(
        "\nconfig rule '{name}'\n\toption action 'allow'\n\tlist domain 'ads.example.com'\n\t\
         list device '{MAC}'\n\toption until '2026-11-21T12:00:00Z'\n"
    );
    assert_eq!(text(&page), format!("{FILE}{added}"));
    // For good, and again: the same section, and nothing to write.
    let name = page.write(&wish(Verb::Allow, "ads.example.com", MAC)).unwrap();
    let after = text(&page).to_owned();
    assert_eq!(
        after,
        format!("{FILE}{added}").replace("\toption until '2026-11-21T12:00:00Z'\n", "")
    );
    assert_eq!(page.write(&wish(Verb::Allow, "ads.example.com", MAC)), Ok(name.clone()));
    assert_eq!(text(&page), after);
    // For another device it is another decision, and so is a name that looks alike.
    assert_ne!(page.write(&wish(Verb::Allow, "ads.example.com", "192.0.2.7")).unwrap(), name);
    assert_eq!(
        page.write(&wish(Verb::Allow, "ads-example.com", MAC)).unwrap(),
        "by_hand_allow_ads_example_com_02_00_5e_10_00_01_2"
    );
}

#[test]
fn the_opposite_of_a_decision_takes_its_place() {
    let mut page = page(FILE);
    page.write(&wish(Verb::Deny, "192.0.2.0/24", "")).unwrap();
    let other = page.write(&wish(Verb::Deny, "192.0.2.0/24", MAC)).unwrap();
    let name = page.write(&wish(Verb::Lift, "192.0.2.0/24", "")).unwrap();
    assert!(
        text(&page).contains(
            "config allowlist 'by_hand_allow_192_0_2_0_24'\n\tlist entry '192.0.2.0/24'\n"
        )
    );
    assert_eq!(page.find(&wish(Verb::Deny, "192.0.2.0/24", "")), None);
    assert_eq!(page.find(&wish(Verb::Deny, "192.0.2.0/24", MAC)), Some(other.clone()));
    page.write(&wish(Verb::Deny, "192.0.2.0/24", "")).unwrap();
    assert!(!text(&page).contains(&name));
    page.forget(&other).unwrap();
    page.forget("by_hand_deny_192_0_2_0_24").unwrap();
    assert_eq!(text(&page), FILE);
    assert!(page.forget("mine").unwrap_err().contains("not made by hand"));
    assert!(page.forget("none").unwrap_err().contains("no section"));
    assert!(!is_ours("by_handle") && is_ours("by_hand") && is_ours("by_hand_x"));
}

#[test]
fn what_is_over_goes_with_another_write() {
    let mut page = page(FILE);
    let pause = Wish { until: Some(NOON), ..wish(Verb::Pause, "", MAC) };
    let name = page.write(&pause).unwrap();
    assert!(text(&page).contains("option action 'pause'"));
    page.sweep(None).unwrap();
    page.sweep(Some(NOON.0 - 1)).unwrap();
    assert!(text(&page).contains(&name));
    page.sweep(Some(NOON.0)).unwrap();
    assert_eq!(text(&page), FILE);
}

/// Numbers of anonymous sections, which others have written down, stay.
#[test]
fn no_section_goes_while_somebody_has_changes_of_his_own() {
    let mut page = page(FILE);
    let name = page.write(&wish(Verb::Pause, "", MAC)).unwrap();
    page.block(&"192.0.2.1".parse().unwrap()).unwrap();
    page.keeps_numbers = true;
    page.forget(&name).unwrap();
    page.forget(PREFIX).unwrap();
    page.sweep(Some(NOON.0)).unwrap();
    assert!(text(&page).contains("\toption enabled '0'\n\toption until '1970-01-01T00:00:00Z'\n"));
    assert!(!text(&page).contains("192.0.2.1"));
    page.keeps_numbers = false;
    page.block(&"192.0.2.2".parse().unwrap()).unwrap();
    page.sweep(None).unwrap();
    assert_eq!(
        text(&page),
        format!("{FILE}\nconfig blocklist 'by_hand'\n\tlist entry '192.0.2.2'\n")
    );
}

#[test]
fn the_blocklist_has_every_entry_once() {
    let mut page = page(FILE);
    let net = |text: &str| text.parse::<Net>().unwrap();
    for entry in ["192.0.2.1", "2001:db8::/32", "192.0.2.1"] {
        page.block(&net(entry)).unwrap();
    }
    let list =
        "\nconfig blocklist 'by_hand'\n\tlist entry '192.0.2.1'\n\tlist entry '2001:db8::/32'\n";
    assert_eq!(text(&page), format!("{FILE}{list}"));
    assert_eq!(page.unblock(&net("192.0.2.9")), Ok(false));
    assert_eq!(page.unblock(&net("192.0.2.1")), Ok(true));
    assert_eq!(page.unblock(&net("2001:db8::/32")), Ok(true));
    assert_eq!(text(&page), FILE);
}

#[test]
fn subjects_are_domains_addresses_or_prefixes() {
    for (text, shown) in
        [("A.Test.", "a.test"), ("192.0.2.1/32", "192.0.2.1"), ("2001:DB8::/32", "2001:db8::/32")]
    {
        assert_eq!(text.parse::<Subject>().unwrap().to_string(), shown);
    }
    for text in ["", ".", "a b", "x\u{1b}[31m", "*.test", "'; reboot"] {
        assert!(text.parse::<Subject>().is_err(), "{text}");
    }
}

/// R177: muting a type is an element of a list, once, and leaves no trace when it is taken back.
#[test]
fn a_type_is_muted_once_and_told_again_without_a_trace() {
    let mut page = page(FILE);
    assert_eq!(page.mute("alert", true).unwrap(), "main");
    assert_eq!(page.mute("list", true).unwrap(), "main");
    let muted = text(&page).to_owned();
    assert!(muted.contains("\tlist mute 'alert'\n\tlist mute 'list'\n"), "{muted}");
    page.mute("alert", true).unwrap();
    assert_eq!(text(&page), muted);
    page.mute("list", false).unwrap();
    page.mute("alert", false).unwrap();
    page.mute("alert", false).unwrap();
    assert_eq!(text(&page), FILE);
    // Of an anonymous section, and where there is none.
    for (file, expected) in [
        ("config sluice\n", "config sluice\n\tlist mute 'alert'\n"),
        ("", "\nconfig sluice 'main'\n\tlist mute 'alert'\n"),
    ] {
        let mut page = Page { editor: Editor::new(file.as_bytes()).unwrap(), keeps_numbers: false };
        page.mute("alert", true).unwrap();
        assert_eq!(text(&page).trim_start(), expected.trim_start());
    }
}

/// R188: a device is called something in the section that it has, whoever wrote that; taken back, the file
/// is what it was.
#[test]
fn a_name_is_written_where_the_device_stands() {
    let mac: Mac = MAC.parse().unwrap();
    let mut page = page(FILE);
    let name = page.rename(mac, "Mum's tablet").unwrap();
    assert_eq!(name, "by_hand_device_02_00_5e_10_00_01");
    let added = format!(
        "\nconfig device '{name}'\n\toption mac '{MAC}'\n\toption name 'Mum'\\''s tablet'\n"
    );
    assert_eq!(text(&page), format!("{FILE}{added}"));
    assert_eq!(page.rename(mac, "tablet"), Ok(name.clone()));
    assert_eq!(text(&page), format!("{FILE}{added}").replace("Mum'\\''s tablet", "tablet"));
    page.rename(mac, "").unwrap();
    assert_eq!(text(&page), FILE);
    // A section of somebody else stays, also in another spelling.
    let own = format!("{FILE}\nconfig device\n\toption mac '02-00-5E-10-00-01'\n");
    let mut page = self::page(&own);
    page.rename(mac, "tablet").unwrap();
    assert_eq!(text(&page), format!("{own}\toption name 'tablet'\n"));
    page.rename(mac, "").unwrap();
    assert_eq!(text(&page), own);
    // Numbers of anonymous sections stay.
    let mut page = self::page(FILE);
    let name = page.rename(mac, "tablet").unwrap();
    page.keeps_numbers = true;
    page.forget(&name).unwrap();
    assert_eq!(text(&page), format!("{FILE}\nconfig device '{name}'\n\toption mac '{MAC}'\n"));
    assert!(page.rename(mac, "a\nb\u{1b}").is_err());
}

#[test]
fn a_limit_is_a_rule_about_everything_of_a_device() {
    let mut page = page(FILE);
    let name = page.limit(&wish(Verb::Limit, "", MAC), 512).unwrap();
    assert_eq!(name, "by_hand_limit_02_00_5e_10_00_01");
    let added = |kbit| {
        format!(
            "\nconfig rule '{name}'\n\toption action 'limit'\n\tlist device '{MAC}'\n\t\
             option kbit '{kbit}'\n"
        )
    };
    assert_eq!(text(&page), format!("{FILE}{}", added(512)));
    assert_eq!(page.limit(&wish(Verb::Limit, "", MAC), 1000).unwrap(), name);
    assert_eq!(text(&page), format!("{FILE}{}", added(1000)));
    page.forget(&name).unwrap();
    assert_eq!(text(&page), FILE);
}
