//! Commands by which a file becomes the configuration, on trial where that is wanted.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::control::Request;
use crate::control::hand::Apply;
use crate::text;

pub(super) const HELP: [(&str, &str); 3] = [
    (
        "apply",
        "usage: sluice [--socket PATH] [--json] apply FILE [--confirm SECONDS]\n\nPuts FILE in the place of the configuration and into force, if there is no mistake in it. With --confirm, and for 60 s where it could lock out who manages the router, it is on trial: without `sluice confirm` in time the configuration of before comes back, also when the agent or the router restarts meanwhile. --confirm 0 is no trial. Needs root.\n",
    ),
    (
        "confirm",
        "usage: sluice [--socket PATH] [--json] confirm\n\nKeeps the configuration that is on trial. Needs root.\n",
    ),
    (
        "rollback",
        "usage: sluice [--socket PATH] [--json] rollback\n\nBrings back what was there before the configuration that is on trial, unless the file has been changed since. Needs root.\n",
    ),
];

/// What is asked of the agent, which knows neither our directory nor who we are.
pub(super) fn request(file: &OsString, confirm: Option<u32>) -> Result<Request, String> {
    let file = std::path::absolute(Path::new(file)).map_err(|error| error.to_string())?;
    let file = file.to_str().ok_or("the path of the file is not UTF-8")?.to_owned();
    Ok(Request::Apply(Apply { file, confirm, from: caller() }))
}

/// Where somebody comes from who has a shell here over SSH.
fn caller() -> Option<String> {
    let connection = std::env::var_os("SSH_CONNECTION").or(std::env::var_os("SSH_CLIENT"))?;
    Some(connection.to_str()?.split(' ').next()?.split('%').next()?.to_owned())
}

/// What a reload or an applied file came to, for people.
pub(super) fn applied(applied: &Value) -> String {
    let words = |name: &str| {
        let all = super::texts(applied, name).into_iter();
        all.map(|word| text::plain(word).into_owned()).collect::<Vec<_>>()
    };
    let generation = applied["generation"].as_u64().unwrap_or_default();
    let cost = text::plain(applied["cost"].as_str().unwrap_or_default());
    let changed = words("changed").join(", ");
    let mut text = if changed.is_empty() {
        format!("nothing has changed, generation {generation}\n")
    } else {
        format!("in force, generation {generation}, {cost}: {changed}\n")
    };
    for risk in words("risks") {
        text = text + "warning: this could lock you out: " + &risk + "\n";
    }
    if let Some(seconds) = applied["confirm_s"].as_u64() {
        let _ = writeln!(
            text,
            "on trial: without `sluice confirm` the configuration of before comes back in \
             {seconds} s"
        );
    }
    text
}
