//! The pages for LuCI: what a person sees and clicks in a browser, with the agent behind it.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use sluice::config::SECTIONS;
use sluice::ubus::object::METHODS;
use sluice_tests::agent::{Agent, Setup};
use sluice_tests::bus::Bus;
use sluice_tests::directory::Directory;
use sluice_tests::host::mac_text;
use sluice_tests::luci::browser::Browser;
use sluice_tests::luci::rpcd::{Look, Rpcd, Session};
use sluice_tests::luci::{package, sample, strings};
use sluice_tests::process;
use sluice_tests::router::{Build, Router};
use sluice_tests::service::{Dns, Family, Web, fetch, page};
use sluice_tests::skip::{skipped, without_root};
use sluice_tests::traffic::{TcpService, connect, round_trip};
use sluice_tests::wait;

/// Emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(120);
/// Time for a connection that is blocked.
const BLOCKED: Duration = Duration::from_secs(3);
/// Seconds between two looks of a page.
const PACE: u64 = 5;

const WRITE: Look = Look { session: Session::Write, dark: false };
const READ: Look = Look { session: Session::Read, dark: false };

fn without_browser() -> bool {
    let missing = !process::installed("chromium");
    if missing {
        skipped("there is no chromium");
    }
    missing
}

/// Where pictures of the pages are left for who wants to look at them.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("luci").join(format!("{name}.png"))
}

/// R188: every text of the pages can be translated, and the template has no other.
#[test]
fn the_template_has_every_text_of_the_pages_and_no_other() {
    let wanted = strings::template(&strings::all().unwrap());
    let file = package().join("po/templates/sluice.pot");
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sluice.pot");
    std::fs::write(&written, &wanted).unwrap();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (wanted_lines, found_lines) = (lines(&wanted), lines(&found));
    let differs = wanted_lines.iter().zip(&found_lines).find(|(wanted, found)| wanted != found);
    assert!(
        wanted == found,
        "{} is another than the pages need, first at {differs:?}; copy {}",
        file.display(),
        written.display()
    );
    assert!(wanted_lines.len() > 500, "only {} lines", wanted_lines.len());
}

/// R188: forms offer options that there are, all of them, with words that they take.
#[test]
fn forms_have_only_options_and_words_of_the_schema() {
    let kind = |section: &str| if section == "main" { "sluice" } else { section }.to_owned();
    let offered = form_options();
    for section in SECTIONS {
        for option in section.options {
            let is_it = |(of, name, _): &(String, String, _)| {
                kind(of) == section.kind && name == option.name
            };
            assert!(offered.iter().any(is_it), "no form has {}.{}", section.kind, option.name);
        }
    }
    let count = offered.len();
    for (section, name, words) in offered {
        let kind = kind(&section);
        let section = SECTIONS.iter().find(|one| one.kind == kind);
        let options = section.unwrap_or_else(|| unreachable!("no section {kind}")).options;
        let option = options.iter().find(|option| option.name == name);
        let option = option.unwrap_or_else(|| unreachable!("{kind} has no option {name}"));
        let range = option.kind.to_string();
        for word in words.iter().filter(|_| option.kind.name() == "word") {
            assert!(range.split(", ").any(|one| one == word), "{kind}.{name}: {word}");
        }
    }
    assert!(count > 100, "only {count} options were found");
}

/// Section, name and words of every option in a form.
fn form_options() -> Vec<(String, String, Vec<String>)> {
    let mut found = Vec::new();
    for file in ["main", "rules", "lists"] {
        let file = format!("htdocs/luci-static/resources/sluice/options/{file}.js");
        let text = std::fs::read_to_string(package().join(file)).unwrap();
        let mut section = String::new();
        for line in text.lines() {
            if let Some(name) = line.strip_suffix(": [") {
                name.clone_into(&mut section);
            } else if let Some(entry) = line.strip_prefix("\t[ '") {
                let name = entry.split('\'').next().unwrap().to_owned();
                let words = entry.rsplit_once(" of: '").map(|(_, rest)| rest.split('\''));
                let words = words.and_then(|mut rest| rest.next()).unwrap_or_default();
                let words = words.split(' ').filter(|word| !word.is_empty());
                found.push((section.clone(), name, words.map(str::to_owned).collect()));
            }
        }
    }
    found
}

/// R188: rights are split by what a method does, and every method has a right.
#[test]
fn rights_to_change_something_are_apart_from_rights_to_look() {
    let file = package().join("root/usr/share/rpcd/acl.d/luci-app-sluice.json");
    let rights: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let granted = |set: &str| {
        let names = rights["luci-app-sluice"][set]["ubus"]["sluice"].as_array().unwrap().iter();
        names.map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (read, write) = (granted("read"), granted("write"));
    assert!(read.iter().all(|name| !write.contains(name)), "{read:?} {write:?}");
    let of_agent = std::fs::read(package().join("../sluice/files/sluice.acl.json")).unwrap();
    let of_agent: Json = serde_json::from_slice(&of_agent).unwrap();
    for method in METHODS {
        let is_in = |set: &str| {
            let names = of_agent["sluice"][set]["ubus"]["sluice"].as_array().unwrap();
            names.iter().any(|name| name == method.name)
        };
        for (set, names) in [("read", &read), ("write", &write)] {
            let here = names.iter().any(|name| name == method.name);
            assert!(!here || is_in(set), "{} may not be {set} here", method.name);
        }
    }
}

/// A page with answers that no agent gave, in a browser.
struct Stage {
    browser: Browser,
    rpcd: Rpcd,
    _files: Directory,
}

impl Stage {
    fn new() -> Self {
        let files = Directory::new("luci").unwrap();
        let config = "\nconfig sluice 'main'\n\nconfig rule 'ads'\n\toption action 'block'\n\
                      \nconfig blocklist 'bad'\n\nconfig interface 'wan'\n\toption role 'wan'\n\
                      \nconfig group 'kids'\n\tlist device '<img src=x onerror=\"window.hit=1\">'\n";
        let config = files.write("sluice.uci", config).unwrap();
        let rpcd = Rpcd::start(&files.path().join("nobody"), &config).unwrap();
        rpcd.answer("sluice status", Some(sample::status()));
        rpcd.answer("sluice flows", Some(sample::flows(340, 0, 100)));
        rpcd.answer("sluice devices", Some(sample::devices(150)));
        rpcd.answer("sluice events", Some(sample::events()));
        rpcd.answer("sluice why", Some(sample::why()));
        let hints = json!({"02:00:00:00:00:01": {
            "name": sample::HOSTILE[0], "ipaddrs": ["192.168.77.10"], "ip6addrs": []}});
        rpcd.answer("luci-rpc getHostHints", Some(hints));
        Self { browser: Browser::start().unwrap(), rpcd, _files: files }
    }

    fn open(&mut self, view: &str, look: Look) {
        self.browser.open(&self.rpcd.page(view, look)).unwrap();
        self.browser.wait_for("document.querySelector('.sluice')").unwrap();
        // Colours are measured, and a sheet that a page asks for comes when it comes.
        self.browser.wait_for(STYLED).unwrap();
    }
}

/// Whether every style sheet is there.
const STYLED: &str =
    "[...document.querySelectorAll('link[rel=stylesheet]')].every(link => link.sheet)";

/// The least contrast of text with what is behind it, and the text; text that cannot be used is
/// left out.
const CONTRAST: &str = r"(() => {
    const part = (color) => color.match(/[\d.]+/g).map(Number);
    const light = (color) => {
        const [ r, g, b ] = part(color).slice(0, 3).map((value) => {
            value /= 255;
            return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (node) => {
        for (; node; node = node.parentElement) {
            const color = getComputedStyle(node).backgroundColor;
            const parts = part(color);
            if (parts.length < 4 || parts[3] > 0)
                return color;
        }
        return 'rgb(255, 255, 255)';
    };
    let least = [ 99, '' ];
    const walker = document.createTreeWalker(document.querySelector('.sluice'), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        const node = walker.currentNode.parentElement;
        if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('button, select'))
            continue;
        const [ a, b ] = [ light(getComputedStyle(node).color), light(behind(node)) ];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least[0])
            least = [ ratio, walker.currentNode.data ];
    }
    return least;
})()";

/// R195: names from the network are text, in every place where they are shown; R188: the pages
/// are read in both themes and on a telephone.
#[test]
fn hostile_names_stay_text_and_pages_can_be_read_anywhere() {
    if without_browser() {
        return;
    }
    let mut stage = Stage::new();
    for (dark, width) in [(false, 1280), (true, 1280), (false, 360), (true, 360)] {
        stage.browser.resize(width, 800).unwrap();
        for view in ["overview", "devices", "activity", "alerts"] {
            let look = Look { session: Session::Write, dark };
            stage.open(view, look);
            stage.browser.see("<img src=x onerror=").unwrap();
            if view == "activity" {
                stage.browser.click(".sluice-flow summary", "<script>").unwrap();
                stage.browser.see("by <img src=x").unwrap();
            }
            if view == "devices" {
                stage.browser.click(".sluice-device summary", "<script>").unwrap();
                stage.browser.see("Most at the moment").unwrap();
                stage.browser.see("Hardware address").unwrap();
            }
            if view == "alerts" {
                stage.browser.click(".sluice-event summary", "<script>").unwrap();
                stage.browser.see("Importance").unwrap();
            }
            let text = stage.browser.text().unwrap();
            for hostile in &sample::HOSTILE[..4] {
                assert!(text.contains(hostile), "{view}: {hostile}\n{text}");
            }
            assert!(text.contains("red\u{fffd}[31m line\u{fffd}break \u{fffd}sdrawkcab"), "{text}");
            assert!(text.contains("&lt;b&gt; %s %d %h \\u003c"), "{text}");
            let count = "document.querySelectorAll('.sluice img, .sluice script').length";
            assert_eq!(stage.browser.eval(count).unwrap(), json!(0));
            assert_eq!(stage.browser.eval("window.hit || null").unwrap(), Json::Null);
            let least = stage.browser.eval(CONTRAST).unwrap();
            assert!(least[0].as_f64().unwrap() >= 4.5, "{view}, dark {dark}: {least}");
            let wide = stage.browser.eval("document.documentElement.scrollWidth").unwrap();
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{view}: {wide} of {width}");
            stage.browser.picture(&picture(&format!("{view}-{width}-{dark}"))).unwrap();
        }
    }
    assert_eq!(stage.browser.errors(), [""; 0]);
}

/// R188: an upgrade does not show new pages with the style sheet of before, and tools stand in one line.
#[test]
fn a_style_sheet_is_asked_for_by_version_and_fields_are_of_one_height() {
    if without_browser() {
        return;
    }
    let mut stage = Stage::new();
    stage.open("activity", WRITE);
    stage.browser.see("1 to 100 of 340").unwrap();
    // Themes draw a field to search in unlike others.
    let heights = "[...document.querySelector('.sluice-tools').children].slice(0, 2) \
                   .map(node => node.getBoundingClientRect().height)";
    let heights = stage.browser.eval(heights).unwrap();
    assert_eq!(heights[0], heights[1], "{heights}");
    // uhttpd lets browsers keep a sheet as long as they like.
    let sheets = "[...document.querySelectorAll('link')].map(node => node.getAttribute('href'))";
    let sheets = stage.browser.eval(sheets).unwrap();
    assert_eq!(sheets[1], "/luci-static/resources/sluice/sluice.css?v=26.064-7", "{sheets}");
    assert_eq!(stage.browser.errors(), [""; 0]);
}

/// R188: a page asks one question every few seconds, about a part that does not grow, and none
/// while nobody sees it; who has no rights is told so.
#[test]
fn a_page_asks_little_and_nothing_while_it_is_hidden() {
    if without_browser() {
        return;
    }
    let mut stage = Stage::new();
    let asked = |rpcd: &Rpcd, method: &str, calls| {
        let enough = || rpcd.calls(method) >= calls;
        wait::until_true("the page asked", LIMIT, enough).unwrap();
    };
    stage.open("overview", WRITE);
    asked(&stage.rpcd, "sluice status", 2);
    // What it needs once is behind it.
    drop(stage.rpcd.take_calls());
    let start = Instant::now();
    asked(&stage.rpcd, "sluice status", 2);
    assert!(start.elapsed() > Duration::from_secs(PACE), "{:?}", start.elapsed());
    let calls = stage.rpcd.take_calls();
    assert_eq!(calls.keys().collect::<Vec<_>>(), ["sluice status"]);

    stage.open("alerts", WRITE);
    asked(&stage.rpcd, "sluice events", 2);
    drop(stage.rpcd.take_calls());
    asked(&stage.rpcd, "sluice events", 1);
    assert_eq!(stage.rpcd.take_calls().keys().collect::<Vec<_>>(), ["sluice events"]);
    assert_eq!(
        stage.rpcd.asked("sluice events"),
        json!({"offset": 0, "limit": 50, "kinds": "", "severity": "notice", "archived": 0})
    );
    stage.browser.enter("[aria-label=Kind]", "contact").unwrap();
    stage.browser.enter("[aria-label=Which]", "away").unwrap();
    let wanted =
        json!({"offset": 0, "limit": 50, "kinds": "contact", "severity": "", "archived": 1});
    let chosen = || stage.rpcd.asked("sluice events") == wanted;
    wait::until_true("what was chosen was asked for", LIMIT, chosen).unwrap();

    stage.open("devices", WRITE);
    asked(&stage.rpcd, "sluice devices", 2);
    drop(stage.rpcd.take_calls());
    asked(&stage.rpcd, "sluice devices", 1);
    assert_eq!(stage.rpcd.take_calls().keys().collect::<Vec<_>>(), ["sluice devices"]);
    assert_eq!(stage.rpcd.asked("sluice devices"), json!({"offset": 0, "limit": 100}));
    stage.browser.see("100 of 150 shown. Rates of the last 5.0 s.").unwrap();

    stage.open("activity", WRITE);
    asked(&stage.rpcd, "sluice flows", 2);
    let hide = "Object.defineProperty(document, 'hidden', { configurable: true, value: true }); \
                window.seen = poll.tick";
    stage.browser.eval(hide).unwrap();
    let later = |ticks: u64| format!("poll.tick > window.seen + {ticks}");
    // What was under way has arrived.
    stage.browser.wait_for(&later(1)).unwrap();
    drop(stage.rpcd.take_calls());
    stage.browser.wait_for(&later(PACE + 2)).unwrap();
    assert_eq!(stage.rpcd.take_calls().len(), 0, "nobody looks");
    let show = "delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))";
    stage.browser.eval(show).unwrap();
    asked(&stage.rpcd, "sluice flows", 1);
    let rows = "document.querySelectorAll('.sluice-flow').length";
    assert_eq!(stage.browser.eval(rows).unwrap(), json!(100));
    stage.browser.see("1 to 100 of 340").unwrap();
    stage.rpcd.answer("sluice flows", Some(sample::flows(340, 100, 100)));
    stage.browser.click("button", "Older").unwrap();
    stage.browser.see("101 to 200 of 340").unwrap();
    let wanted = json!({"offset": 100, "limit": 100});
    let turned = || stage.rpcd.asked("sluice flows") == wanted;
    wait::until_true("a hundred more were asked for", LIMIT, turned).unwrap();
    stage.browser.enter("input[type=search]", "203.0.113.150").unwrap();
    stage.browser.see("1 of 100 shown").unwrap();

    // Who may only look sees the forms, and nothing to change them with.
    let buttons = "[...document.querySelectorAll('button')].map(node => node.innerText).sort()";
    for (view, text) in [
        ("lists", "Blocked addresses"),
        ("rules", "<img src=x onerror=\"window.hit=1\">"),
        ("settings", "Protection"),
    ] {
        for (look, may) in [(WRITE, true), (READ, false)] {
            stage.open(view, look);
            stage.browser.see(text).unwrap();
            let found = stage.browser.eval(buttons).unwrap();
            let found = found.as_array().unwrap();
            for name in ["Add", "Delete", "Save", "Save & Apply", "Reset"] {
                assert_eq!(found.contains(&json!(name)), may, "{view}: {name} in {found:?}");
            }
        }
        let told = [("lists", "not in force"), ("rules", "nothing so far")];
        for (_, text) in told.iter().filter(|(of, _)| *of == view) {
            stage.browser.see(text).unwrap();
        }
        assert_eq!(stage.browser.eval("window.hit || null").unwrap(), Json::Null);
    }

    for (view, method) in [
        ("overview", "status"),
        ("devices", "devices"),
        ("activity", "flows"),
        ("alerts", "events"),
    ] {
        stage.open(view, Look { session: Session::Nobody, dark: false });
        stage.browser.see("Not for this session").unwrap();
        stage.rpcd.answer(&format!("sluice {method}"), None);
        stage.open(view, WRITE);
        stage.browser.see("Sluice is not running").unwrap();
    }
    assert_eq!(stage.browser.errors(), [""; 0]);
}

/// An address is blocked at once, for everyone, and no longer.
fn block_an_address(browser: &mut Browser, rpcd: &Rpcd, router: &Router) {
    let stranger = router.attacker.v4;
    let echo = TcpService::echo(&router.attacker, stranger.into(), 7).unwrap();
    let reaches = || {
        let stream = connect(router.client(), echo.address());
        stream.is_ok_and(|mut stream| {
            stream.set_read_timeout(Some(BLOCKED)).unwrap();
            round_trip(&mut stream, b"x", 1).is_ok()
        })
    };
    assert!(reaches());
    browser.open(&rpcd.page("lists", WRITE)).unwrap();
    browser.enter("[aria-label='Address or network']", &stranger.to_string()).unwrap();
    browser.enter("[aria-label='How long']", "3600").unwrap();
    browser.click(".sluice-decide button", "Block").unwrap();
    browser.see(&format!("{stranger} is blocked.")).unwrap();
    assert!(!reaches());
    browser.click(".sluice-decide button", "Lift the block").unwrap();
    browser.see(&format!("{stranger} is no longer blocked.")).unwrap();
    assert!(reaches());
}

/// An event is put away, and its kind not told of any more, and told again.
fn put_an_alert_away(browser: &mut Browser, rpcd: &Rpcd, agent: &Agent) {
    let config = || std::fs::read_to_string(agent.config()).unwrap();
    browser.open(&rpcd.page("alerts", WRITE)).unwrap();
    browser.see("Nothing to look at.").unwrap();
    browser.enter("[aria-label=Which]", "all").unwrap();
    browser.click(".sluice-event summary", "was kept from ads.test by rule no_ads").unwrap();
    browser.picture(&picture("alerts-live")).unwrap();
    browser.click(".sluice-event[open] button", "No longer tell of: Blocked connection").unwrap();
    browser.see("Not told of:").unwrap();
    assert!(config().contains("list mute 'verdict'"), "{}", config());
    browser.click("button", "Tell of Blocked connection again").unwrap();
    browser.wait_for("!document.body.innerText.includes('Not told of:')").unwrap();
    assert!(!config().contains("mute"), "{}", config());
    browser.click("button", "Put all away").unwrap();
    browser.see("Nothing to look at.").unwrap();
    browser.enter("[aria-label=Which]", "away").unwrap();
    browser.see("was kept from ads.test by rule no_ads").unwrap();
}

/// What strangers may do is switched off, and on again.
fn switch_limits(browser: &mut Browser, rpcd: &Rpcd, agent: &Agent) {
    let is_on = || {
        let shown = agent.ask(&["features", "--json"]).unwrap();
        let features: Json = serde_json::from_str(&shown).unwrap();
        let features = features["features"].as_array().unwrap().clone();
        features.iter().find(|one| one["name"] == "ddos").unwrap()["wanted"] == "on"
    };
    assert!(is_on());
    for wanted in [false, true] {
        browser.open(&rpcd.page("settings", WRITE)).unwrap();
        browser.see("Limits and checks").unwrap();
        browser.click("[id='widget.cbid.sluice.limits.enabled']", "").unwrap();
        browser.click("button", "Save & Apply").unwrap();
        wait::until_true("that was in force", LIMIT, || is_on() == wanted).unwrap();
        let config = std::fs::read_to_string(agent.config()).unwrap();
        // As elsewhere, what has its default leaves no trace.
        let says = |section: &str| {
            section.contains("config ddos") && section.contains("option enabled '0'")
        };
        assert_eq!(config.split("\n\n").any(says), !wanted, "{config}");
        // Nobody has chosen them.
        assert!(
            !config.contains("option on_error") && !config.contains("option log_level"),
            "{config}"
        );
    }
}

/// R188: who is in the household, what each receives just now and from where, and what a person does about
/// one of them, is what the router does; who may only look has nothing to press.
#[test]
fn a_device_is_seen_named_paused_slowed_and_blocked_on_its_page() {
    if without_root() || without_browser() {
        return;
    }
    let router = Router::new(Build { clients: 2, ..Build::default() }).unwrap();
    let files = Directory::new("luci").unwrap();
    let names = ["news.test"];
    let _dns = Dns::start(&router, &names).unwrap();
    let _web = Web::start(&router.server, &names).unwrap();
    let bus = Bus::start(&files.path().join("ubus.sock")).unwrap();
    let setup = Setup::default().main("ubus", bus.path().display()).main("clock", "trust");
    let agent = Agent::start(&router, setup).unwrap();
    let offered = || bus.objects() == ["sluice"];
    wait::until_true("the object was offered", LIMIT, offered).unwrap();
    let rpcd = Rpcd::start(bus.path(), &agent.config()).unwrap();
    let mut browser = Browser::start().unwrap();
    browser.resize(1280, 900).unwrap();
    let get = |path: &str, limit| {
        let url = format!("https://news.test{path}");
        fetch(router.client(), Family::V4, &url, limit).unwrap().is_success()
    };
    let config = || std::fs::read_to_string(agent.config()).unwrap();
    let (mac, before) = (mac_text(router.client().mac), config());

    browser.open(&rpcd.page("devices", WRITE)).unwrap();
    assert!(get("/", LIMIT));
    std::thread::scope(|scope| {
        let download = scope.spawn(|| get(page::SLOW, LIMIT));
        browser.see(&mac).unwrap();
        // A megabyte a second, as text beside its arrow.
        browser.wait_for("/↓ \\d(\\.\\d)?\\sMbit\\/s/.test(document.body.innerText)").unwrap();
        browser.click(".sluice-device summary", &mac).unwrap();
        browser.see("Most at the moment").unwrap();
        browser.see("news.test").unwrap();
        browser.picture(&picture("devices-live")).unwrap();
        assert!(download.join().unwrap());
    });

    let row = ".sluice-device[open]";
    let press = |browser: &mut Browser, button: &str, said: &str| {
        browser.click(&format!("{row} button:not([hidden])"), button).unwrap();
        browser.see(said).unwrap();
    };
    browser.enter(&format!("{row} [aria-label=Name]"), "Mum's phone").unwrap();
    press(&mut browser, "Rename", "has another name now.");
    assert!(config().contains("config device 'by_hand_device_"), "{}", config());
    browser.see("Mum's phone (given here)").unwrap();

    browser.enter(&format!("{row} [aria-label='How long']"), "1800").unwrap();
    press(&mut browser, "Pause", "Mum's phone is paused.");
    assert!(!get("/", BLOCKED));
    browser.see("Paused (29 min left)").unwrap();
    press(&mut browser, "Resume", "Mum's phone goes on.");
    assert!(get("/", LIMIT));

    press(&mut browser, "Slow each connection down", "Mum's phone is slowed down.");
    browser.see("Slowed to 2.0\u{a0}Mbit/s").unwrap();
    assert!(get("/", LIMIT));
    agent.wait_for_flow("slowed", |flow| flow.verdict == "limited").unwrap();
    press(&mut browser, "As fast as it can", "Mum's phone is slowed down no more.");

    press(&mut browser, "Block", "Mum's phone is blocked.");
    assert!(!get("/", BLOCKED));
    press(&mut browser, "Lift the block", "Mum's phone is no longer blocked.");
    assert!(get("/", LIMIT));

    browser.enter(&format!("{row} [aria-label=Name]"), "").unwrap();
    press(&mut browser, "Rename", "has another name now.");
    assert_eq!(config(), before);

    browser.open(&rpcd.page("devices", READ)).unwrap();
    browser.click(".sluice-device summary", &mac).unwrap();
    browser.see("Hardware address").unwrap();
    let buttons = "[...document.querySelectorAll('.sluice button')].map(node => node.innerText)";
    assert_eq!(browser.eval(buttons).unwrap(), json!(["More traffic", "Less traffic"]));
    assert_eq!(browser.errors(), [""; 0]);
}

/// R188: what a person sees and decides is what the router does.
#[test]
fn what_a_person_decides_is_what_the_router_does() {
    if without_root() || without_browser() {
        return;
    }
    let router = Router::new(Build::default()).unwrap();
    let files = Directory::new("luci").unwrap();
    let names = ["news.test", "ads.test"];
    let _dns = Dns::start(&router, &names).unwrap();
    let _web = Web::start(&router.server, &names).unwrap();
    let bus = Bus::start(&files.path().join("ubus.sock")).unwrap();
    let setup = Setup::default().main("ubus", bus.path().display()).main("clock", "trust");
    let setup = setup.ddos("syn_pps", 100_000);
    let mut agent = Agent::start(&router, setup.rule("no_ads", "block", &["ads.test"])).unwrap();
    let offered = || bus.objects() == ["sluice"];
    wait::until_true("the object was offered", LIMIT, offered).unwrap();
    let rpcd = Rpcd::start(bus.path(), &agent.config()).unwrap();
    let mut browser = Browser::start().unwrap();
    browser.resize(1280, 900).unwrap();
    let get = |name: &str, limit| {
        fetch(router.client(), Family::V4, &format!("https://{name}/"), limit).unwrap()
    };

    browser.open(&rpcd.page("overview", WRITE)).unwrap();
    browser.see("Protected").unwrap();
    browser.see("Inspection").unwrap();
    assert!(get("news.test", LIMIT).is_success());
    assert!(!get("ads.test", BLOCKED).is_success());
    browser.see("Blocked connections").unwrap();
    browser.see("interface totals, last five minutes").unwrap();
    browser
        .wait_for("/\\d\\s(B|KiB)\\/s/.test(document.querySelector('.sluice-legend').innerText)")
        .unwrap();
    browser.picture(&picture("overview-live")).unwrap();

    browser.open(&rpcd.page("activity", WRITE)).unwrap();
    browser.see("news.test").unwrap();
    browser.see("no_ads (ads.test)").unwrap();
    browser.click(".sluice-flow summary", "ads.test").unwrap();
    browser.see("blocked by rule no_ads: ads.test").unwrap();
    browser.picture(&picture("activity-live")).unwrap();
    let offers = |name: &str| METHODS.iter().any(|method| method.name == name);
    if offers("allow") {
        browser.enter("[aria-label='For whom']", "").unwrap();
        browser.click(".sluice-flow[open] button", "Allow").unwrap();
        browser.see("ads.test is allowed.").unwrap();
        assert!(get("ads.test", LIMIT).is_success());
        browser.click(".sluice-outcome button", "Undo").unwrap();
        browser.see("Taken back.").unwrap();
        assert!(!get("ads.test", BLOCKED).is_success());
    }
    browser.click(".sluice-flow[open] summary", "ads.test").unwrap();
    browser.click(".sluice-flow summary", "news.test").unwrap();
    browser.click(".sluice-flow[open] button", "Block").unwrap();
    browser.see("news.test is blocked.").unwrap();
    assert!(!get("news.test", BLOCKED).is_success());
    browser.click(".sluice-outcome button", "Undo").unwrap();
    browser.see("Taken back.").unwrap();
    assert!(get("news.test", LIMIT).is_success());
    if offers("pause") {
        browser.click(".sluice-flow[open] button", "Pause").unwrap();
        browser.see("is paused.").unwrap();
        assert!(!get("news.test", BLOCKED).is_success());
        browser.click(".sluice-flow[open] button", "Resume").unwrap();
        browser.see("goes on.").unwrap();
        assert!(get("news.test", LIMIT).is_success());
    }

    block_an_address(&mut browser, &rpcd, &router);
    put_an_alert_away(&mut browser, &rpcd, &agent);
    switch_limits(&mut browser, &rpcd, &agent);

    let generation = agent.status().unwrap().generation;
    // A rule that is edited in its form counts once it is applied.
    browser.open(&rpcd.page("rules", WRITE)).unwrap();
    browser.see("no_ads").unwrap();
    browser.click("[data-section-id=no_ads] button", "Edit").unwrap();
    let domains = "[id='widget.cbid.sluice.no_ads.domain']";
    browser.enter(domains, "ads.test\nnews.test").unwrap();
    browser.click(".modal button", "Save").unwrap();
    browser.click("button", "Save & Apply").unwrap();
    let applied = || agent.status().is_ok_and(|status| status.generation > generation);
    wait::until_true("the configuration was read", LIMIT, applied).unwrap();
    assert!(!get("news.test", BLOCKED).is_success());
    browser.open(&rpcd.page("rules", WRITE)).unwrap();
    browser.see("connections, ").unwrap();
    browser.picture(&picture("rules-live")).unwrap();

    // Who may only look sees the same, and nothing to press.
    browser.open(&rpcd.page("activity", READ)).unwrap();
    browser.see("no_ads (ads.test)").unwrap();
    browser.click(".sluice-flow summary", "ads.test").unwrap();
    browser.see("blocked by rule no_ads: ads.test").unwrap();
    let buttons = "[...document.querySelectorAll('.sluice button')].map(node => node.innerText)";
    assert_eq!(browser.eval(buttons).unwrap(), json!(["Newer", "Older"]));
    browser.open(&rpcd.page("alerts", READ)).unwrap();
    browser.see("What happened that somebody should know").unwrap();
    browser.enter("[aria-label=Which]", "away").unwrap();
    browser.click(".sluice-event summary", "was kept from ads.test").unwrap();
    browser.see("Importance").unwrap();
    assert_eq!(browser.eval(buttons).unwrap(), json!(["Newer", "Older"]));

    browser.open(&rpcd.page("overview", WRITE)).unwrap();
    browser.see("Protected").unwrap();
    agent.stop().unwrap();
    browser.see("Sluice is not running").unwrap();
    browser.see("the last that was heard").unwrap();
    assert_eq!(browser.errors(), [""; 0]);
}
