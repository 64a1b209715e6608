//! Chromium, driven over pipes with the protocol of its developer tools.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::directory::Directory;
use crate::error::{Attempt as _, Error, Result};
use crate::{process, wait};

/// Time for an answer; a machine that does much else is slow.
const LIMIT: Duration = Duration::from_secs(60);

/// The browser with one page. It ends with its guard.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Json>,
    last: u64,
    session: Option<String>,
    errors: Vec<String>,
    _profile: Directory,
}

impl Browser {
    /// Starts it with an empty page.
    pub fn start() -> Result<Self> {
        process::need(&["chromium"])?;
        let profile = Directory::new("browser")?;
        let mut command = Command::new("sh");
        // It reads commands from descriptor 3 and answers on 4.
        command.args(["-c", r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#, "sh"]);
        command.arg("chromium").arg(format!("--user-data-dir={}", profile.path().display()));
        // The sandbox is not for root.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]);
        command.args(["--no-first-run", "--disable-background-networking", "--disable-sync"]);
        command.args(["--disable-component-update", "--remote-debugging-pipe", "about:blank"]);
        command.env("HOME", profile.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().attempt(|| "start chromium".to_owned())?;
        let (Some(commands), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Unusable("chromium has no pipes".to_owned()));
        };
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(std::result::Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Self {
            child,
            commands,
            messages,
            last: 0,
            session: None,
            errors: Vec::new(),
            _profile: profile,
        };
        let target = browser.call("Target.createTarget", json!({"url": "about:blank"}))?;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Runtime.enable", "Page.enable"] {
            browser.call(domain, json!({}))?;
        }
        Ok(browser)
    }

    /// One command and its answer.
    fn call(&mut self, method: &str, params: Json) -> Result<Json> {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = session.clone().into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).attempt(|| format!("tell chromium {method}"))?;
        let until = Instant::now() + LIMIT;
        loop {
            wait::interrupted()?;
            let left = until.saturating_duration_since(Instant::now());
            let message = self.messages.recv_timeout(left);
            let mut message =
                message.map_err(|error| Error::Unusable(format!("chromium, {method}: {error}")))?;
            if message["id"] == json!(self.last) {
                return match message.get("error") {
                    Some(error) => Err(Error::Unusable(format!("chromium, {method}: {error}"))),
                    None => Ok(message["result"].take()),
                };
            }
            self.note(&message);
        }
    }

    /// Keeps what went wrong in a page.
    fn note(&mut self, message: &Json) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Runtime.exceptionThrown") => {
                self.errors.push(params["exceptionDetails"].to_string());
            }
            Some("Runtime.consoleAPICalled") if params["type"] == "error" => {
                self.errors.push(params["args"].to_string());
            }
            _ => {}
        }
    }

    /// What went wrong in pages until now.
    #[must_use]
    pub fn errors(&self) -> &[String] {
        &self.errors
    }

    /// Gives the page another size; below 500 pixels it is a telephone.
    pub fn resize(&mut self, width: u32, height: u32) -> Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500,
        });
        self.call("Emulation.setDeviceMetricsOverride", size).map(drop)
    }

    /// Opens an address.
    pub fn open(&mut self, address: &str) -> Result<()> {
        let answer = self.call("Page.navigate", json!({"url": address}))?;
        let refusal = answer["errorText"].as_str();
        refusal.map_or(Ok(()), |why| Err(Error::Unusable(format!("{address}: {why}"))))
    }

    /// What an expression of the page's language gives.
    pub fn eval(&mut self, expression: &str) -> Result<Json> {
        let params = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut answer = self.call("Runtime.evaluate", params)?;
        match answer.get("exceptionDetails") {
            Some(error) => Err(Error::Unusable(format!("{expression}: {error}"))),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// Waits until an expression holds, and gives it; a page that is being left is asked again.
    pub fn wait_for(&mut self, expression: &str) -> Result<Json> {
        let holds = |value: &Json| !matches!(value, Json::Null | Json::Bool(false));
        let found = wait::until(&format!("the page said {expression}"), LIMIT, || {
            Ok(self.eval(expression).ok().filter(holds))
        });
        found.map_err(|error| {
            let text = self.text().unwrap_or_default();
            Error::Unusable(format!("{error}\n{:?}\nthe page:\n{text}", self.errors))
        })
    }

    /// The text that a person sees.
    pub fn text(&mut self) -> Result<String> {
        let text = self.eval("document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a person sees a text.
    pub fn see(&mut self, text: &str) -> Result<()> {
        self.wait_for(&format!("document.body.innerText.includes({})", json!(text))).map(drop)
    }

    /// Clicks on what a selector names and has a text, once it can be seen.
    pub fn click(&mut self, selector: &str, text: &str) -> Result<()> {
        let expression = format!(
            "(() => {{ const node = [...document.querySelectorAll({})].find(node => \
             node.innerText.includes({}) && node.checkVisibility() && !node.disabled); \
             if (node) node.click(); return !!node; }})()",
            json!(selector),
            json!(text),
        );
        self.wait_for(&expression).map(drop)
    }

    /// Writes into a field, or chooses from a list, as a person would.
    pub fn enter(&mut self, selector: &str, value: &str) -> Result<()> {
        let expression = format!(
            "(() => {{ const node = [...document.querySelectorAll({})].find(node => \
             node.checkVisibility()); if (!node) return false; node.value = {}; \
             for (const kind of ['input', 'change']) \
             node.dispatchEvent(new Event(kind, {{ bubbles: true }})); return true; }})()",
            json!(selector),
            json!(value),
        );
        self.wait_for(&expression).map(drop)
    }

    /// Keeps a picture of the page.
    pub fn picture(&mut self, path: &Path) -> Result<()> {
        let answer = self.call("Page.captureScreenshot", json!({"format": "png"}))?;
        let bytes = decode(answer["data"].as_str().unwrap_or_default());
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).attempt(|| format!("make {}", directory.display()))?;
        }
        fs::write(path, bytes).attempt(|| format!("write {}", path.display()))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends in its own time when asked, with all its processes.
        self.session = None;
        let _gone = self.call("Browser.close", json!({}));
        let ended = || matches!(self.child.try_wait(), Ok(Some(_)));
        if !wait::settles(Duration::from_secs(5), ended) {
            let _gone = self.child.kill();
            let _reaped = self.child.wait();
        }
    }
}

/// Base64 without what stands between its characters.
fn decode(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for sextet in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(sextet);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_with_any_length() {
        for (text, bytes) in [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo")] {
            assert_eq!(decode(text), bytes.as_bytes(), "{text}");
        }
        assert_eq!(decode("+/8A"), [0xfb, 0xff, 0]);
    }
}
