//! A stand-in for uhttpd and rpcd: pages, scripts, and calls of the bus for a session with rights.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::{Value as Json, json};
use sluice::ubus::object::METHODS;

use super::package;
use super::uci::Uci;
use crate::caller::Caller;
use crate::error::{Attempt as _, Error, Result};

/// Largest body, as uhttpd has it.
const BODY_MAX: usize = 64 << 10;
/// The double of LuCI: its scripts, its forms, and what a theme does to all pages.
const DOUBLE: [&str; 3] = ["/api.js", "/form.js", "/theme.css"];

/// Who is logged in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Session {
    /// May read and change.
    Write,
    /// May read.
    Read,
    /// Has no rights here.
    Nobody,
}

impl Session {
    const ALL: [Self; 3] = [Self::Write, Self::Read, Self::Nobody];

    const fn id(self) -> &'static str {
        match self {
            Self::Write => "0000000000000000000000000000000a",
            Self::Read => "0000000000000000000000000000000b",
            Self::Nobody => "0000000000000000000000000000000c",
        }
    }

    fn of(id: &Json) -> Option<Self> {
        Self::ALL.into_iter().find(|session| id == session.id())
    }

    const fn groups(self) -> &'static [&'static str] {
        match self {
            Self::Write => &["read", "write"],
            Self::Read => &["read"],
            Self::Nobody => &[],
        }
    }
}

/// How a page is shown.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Who looks.
    pub session: Session,
    /// Whether the theme is a dark one.
    pub dark: bool,
}

/// What the stand-in knows.
#[derive(Debug)]
struct Known {
    bus: PathBuf,
    uci: Uci,
    /// Rights of the package.
    rights: Json,
    /// Calls by object and method, one after the other.
    calls: BTreeMap<String, u32>,
    /// What each was last called with.
    asked: BTreeMap<String, Json>,
    /// Answers in the place of those of the bus.
    canned: BTreeMap<String, Json>,
}

/// The stand-in; it ends with its guard.
#[derive(Debug)]
pub struct Rpcd {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What all connections share, and whether there may be more.
#[derive(Debug)]
struct Shared(Mutex<(Known, bool)>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Known, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rpcd {
    /// In front of a bus, with the file that is `/etc/config/sluice`.
    pub fn start(bus: &Path, config: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").attempt(|| "listen".to_owned())?;
        let address = listener.local_addr().attempt(|| "know the port".to_owned())?;
        let file = package().join("root/usr/share/rpcd/acl.d/luci-app-sluice.json");
        let rights = fs::read(&file).attempt(|| format!("read {}", file.display()))?;
        let rights: Json = serde_json::from_slice(&rights)
            .map_err(|error| Error::Unusable(format!("{}: {error}", file.display())))?;
        let known = Known {
            bus: bus.to_owned(),
            uci: Uci::new(config),
            rights: rights["luci-app-sluice"].clone(),
            calls: BTreeMap::new(),
            asked: BTreeMap::new(),
            canned: BTreeMap::new(),
        };
        let shared = Arc::new(Shared(Mutex::new((known, false))));
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::result::Result::ok) {
                if served.lock().1 {
                    return;
                }
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(&served, stream));
            }
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where a page is.
    #[must_use]
    pub fn page(&self, view: &str, look: Look) -> String {
        let Look { session, dark } = look;
        format!("http://{}/page?view={view}&session={}&dark={dark}", self.address, session.id())
    }

    /// How often a method was called.
    #[must_use]
    pub fn calls(&self, method: &str) -> u32 {
        self.shared.lock().0.calls.get(method).copied().unwrap_or_default()
    }

    /// What a method was last called with.
    #[must_use]
    pub fn asked(&self, method: &str) -> Json {
        self.shared.lock().0.asked.get(method).cloned().unwrap_or_default()
    }

    /// All calls since the last time this was asked.
    #[must_use]
    pub fn take_calls(&self) -> BTreeMap<String, u32> {
        std::mem::take(&mut self.shared.lock().0.calls)
    }

    /// From now on a method answers this, or the bus again.
    pub fn answer(&self, method: &str, answer: Option<Json>) {
        let canned = &mut self.shared.lock().0.canned;
        match answer {
            Some(answer) => canned.insert(method.to_owned(), answer),
            None => canned.remove(method),
        };
    }
}

impl Drop for Rpcd {
    fn drop(&mut self) {
        self.shared.lock().1 = true;
        // The thread looks up when somebody comes.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers one request.
fn serve(shared: &Shared, stream: TcpStream) {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() {
        return;
    }
    let mut words = line.split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut length = 0;
    loop {
        let mut header = String::new();
        if !matches!(reader.read_line(&mut header), Ok(1..)) || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(usize::MAX);
        }
    }
    let (status, kind, body) = match &*method {
        "POST" if length <= BODY_MAX => {
            let mut body = vec![0; length];
            match reader.read_exact(&mut body) {
                Ok(()) => (200, "application/json", shared.post(&body).into_bytes()),
                Err(_) => return,
            }
        }
        "POST" => (413, "text/plain", Vec::new()),
        _ => get(&target),
    };
    let head = format!(
        "HTTP/1.1 {status} x\r\nContent-Type: {kind}; charset=utf-8\r\nContent-Length: {}\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = &stream;
    // A page that was left does not wait for it.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn get(target: &str) -> (u16, &'static str, Vec<u8>) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path == "/page" {
        return (200, "text/html", page(query).into_bytes());
    }
    let place = if DOUBLE.contains(&path) {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("src/luci")
    } else {
        package().join("htdocs")
    };
    let file = place.join(path.trim_start_matches('/'));
    let kind = match file.extension().and_then(|extension| extension.to_str()) {
        Some("js") => "text/javascript",
        Some("css") => "text/css",
        _ => "text/plain",
    };
    match fs::read(&file) {
        Ok(bytes) if !path.contains("..") => (200, kind, bytes),
        _ => (404, "text/plain", Vec::new()),
    }
}

/// The frame that LuCI puts around a page.
fn page(query: &str) -> String {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(of, _)| *of == name).map_or("", |(_, value)| value)
    };
    let session = Session::of(&value("session").into());
    let env = json!({
        "resource": "/luci-static/resources",
        "resource_version": "26.064-7",
        "ubuspath": "/ubus/",
        "sessionid": value("session"),
        "nodespec": {
            "satisfied": !matches!(session, None | Some(Session::Nobody)),
            "readonly": session != Some(Session::Write),
        },
    });
    format!(
        r#"<!DOCTYPE html>
<html lang="en" data-darkmode="{dark}"><head><meta charset="utf-8"><title>{view}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="/theme.css"></head><body>
<div id="maincontent" class="container"><div id="view"></div></div>
<script>window.env = {env};</script>
<script src="/api.js"></script><script src="/form.js"></script>
<script>load('view.sluice.{view}');</script></body></html>"#,
        dark = value("dark"),
        view = value("view"),
    )
}

impl Shared {
    /// Answers a request or several.
    fn post(&self, body: &[u8]) -> String {
        match serde_json::from_slice(body) {
            Ok(Json::Array(all)) => {
                Json::Array(all.iter().map(|one| self.request(one)).collect()).to_string()
            }
            Ok(one) => self.request(&one).to_string(),
            Err(_) => json!({"jsonrpc": "2.0", "id": null, "error": {"code": -32700}}).to_string(),
        }
    }

    fn request(&self, request: &Json) -> Json {
        let mut answer = json!({"jsonrpc": "2.0", "id": request["id"]});
        let params = &request["params"];
        let result = match request["method"].as_str() {
            Some("call") => self.call(params),
            // Anybody may know what there is.
            Some("list") => Ok(self.list(&params[0])),
            _ => Err((-32601, "Method not found")),
        };
        match result {
            Ok(result) => answer["result"] = result,
            Err((code, message)) => answer["error"] = json!({"code": code, "message": message}),
        }
        answer
    }

    fn list(&self, name: &Json) -> Json {
        let bus = self.lock().0.bus.clone();
        let is_there = Caller::connect(&bus)
            .is_ok_and(|mut caller| caller.call("sluice", "names", &json!({})).is_ok());
        if name != "sluice" || !is_there {
            return json!({});
        }
        let methods = METHODS.iter().map(|method| (method.name.to_owned(), json!({})));
        json!({"sluice": Json::Object(methods.collect())})
    }

    fn call(&self, params: &Json) -> std::result::Result<Json, (i32, &'static str)> {
        let (Some(object), Some(method)) = (params[1].as_str(), params[2].as_str()) else {
            return Err((-32602, "Invalid parameters"));
        };
        let session = Session::of(&params[0]).ok_or((-32001, "Session not found"))?;
        let (bus, canned) = {
            let known = &mut self.lock().0;
            let name = format!("{object} {method}");
            *known.calls.entry(name.clone()).or_default() += 1;
            known.asked.insert(name.clone(), params[3].clone());
            if object == "session" || object == "uci" {
                let answer = known.own(session, object, method, &params[3]);
                if method == "apply" && answer == json!([0, {}]) {
                    // As procd does when the configuration changed.
                    let bus = Caller::connect(&known.bus);
                    let _no_agent =
                        bus.and_then(|mut bus| bus.call("sluice", "reload", &json!({})));
                }
                return Ok(answer);
            }
            if !known.may(session, "ubus", object, Some(method)) {
                return Err((-32002, "Access denied"));
            }
            (known.bus.clone(), known.canned.get(&name).cloned())
        };
        if let Some(answer) = canned {
            return Ok(json!([0, answer]));
        }
        let mut arguments = params[3].clone();
        arguments["ubus_rpc_session"] = session.id().into();
        let answer = Caller::connect(&bus)
            .and_then(|mut caller| caller.call(object, method, &arguments))
            .map_err(|_gone| (-32000, "Object not found"))?;
        let told = answer.json();
        let status = answer.status.code();
        let has_data = told.as_object().is_some_and(|members| !members.is_empty());
        Ok(if has_data { json!([status, told]) } else { json!([status]) })
    }
}

impl Known {
    /// Whether the file of rights grants something.
    fn may(&self, session: Session, scope: &str, object: &str, method: Option<&str>) -> bool {
        session.groups().iter().any(|group| {
            let granted = &self.rights[*group][scope];
            match method {
                Some(_) => granted[object].as_array(),
                None => granted.as_array(),
            }
            .is_some_and(|names| names.iter().any(|name| name == method.unwrap_or(object)))
        })
    }

    /// What rpcd answers itself. LuCI's own rights let every session call it; rpcd looks at the
    /// configuration that is asked for.
    fn own(&mut self, session: Session, object: &str, method: &str, arguments: &Json) -> Json {
        let writes = !matches!(method, "get" | "access");
        let config = arguments["config"].as_str().unwrap_or("sluice");
        let has = session.groups().contains(if writes { &"write" } else { &"read" });
        if object == "session" {
            let may = match arguments["function"].as_str() {
                Some("write") => session == Session::Write,
                _ => session != Session::Nobody,
            };
            return json!([0, {"access": may}]);
        }
        if !has || !self.may(session, "uci", config, None) {
            return json!([6]);
        }
        self.uci.call(method, arguments).map_or(json!([4]), |answer| json!([0, answer]))
    }
}
