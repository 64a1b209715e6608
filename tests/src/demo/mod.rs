//! The demo router: builds the world, lets people, servers and an attacker act, and tells what
//! Sluice did about it.

mod scene;
mod summary;
mod throughput;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::{fs, path::Path};

use self::scene::Scene;
use crate::error::{Attempt as _, Error, Result};
use crate::host::Host;
use crate::wait;

/// What the user asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Options {
    /// Leave the world running until Ctrl-C.
    pub keep: bool,
    /// Rounds of the throughput comparison; none leaves it out.
    pub rounds: u32,
}

/// Prints a line for the user.
fn say(text: &str) {
    // Nobody reads any more; the demo still has to clean up.
    let _closed = writeln!(io::stdout(), "{text}");
}

/// Runs the demo. An error when the main job did not happen; everything is taken down either way.
pub fn run(options: Options) -> Result<()> {
    let scene = Scene::set(options.rounds > 0)?;
    let mut facts = scene.play()?;
    if options.rounds > 0 {
        facts.rates = Some(scene.measure(options.rounds)?);
    }
    say(&summary::text(&facts));
    let failures = summary::failures(&facts);
    if options.keep {
        keep(&scene)?;
    }
    say("Taking everything down.");
    drop(scene);
    if failures.is_empty() {
        return Ok(());
    }
    Err(Error::Unusable(format!(
        "the demo did not show what it should:\n  {}",
        failures.join("\n  ")
    )))
}

/// Tells how to play, and waits for Ctrl-C.
fn keep(scene: &Scene) -> Result<()> {
    let directory = scene.world.directory.path();
    let mut machines = vec![("attacker", &scene.world.attacker), ("server", &scene.world.server)];
    let names = ["client1", "client2"];
    machines.extend(names.into_iter().zip(&scene.world.clients));
    for (name, host) in machines {
        script(&directory.join(name), &enter(host))?;
    }
    let router = format!("exec nsenter --net=/run/netns/{}", scene.world.netns.name());
    script(&directory.join("router"), &format!("{router} \"$@\""))?;
    let sluice = scene.agent.program().display().to_string();
    let socket = scene.agent.socket().display().to_string();
    script(&directory.join("sluice"), &format!("{router} '{sluice}' --socket '{socket}' \"$@\""))?;

    let mut text = format!(
        "\nThe router keeps running until Ctrl-C. In another terminal, as root:\n\n  cd {}\n",
        directory.display()
    );
    let config = scene.agent.config();
    for (command, about) in [
        ("./sluice status", "features, counters, lists"),
        ("./sluice flows", "decided flows"),
        ("./sluice why ads.test", "what blocks a name or an address"),
        ("./client1 curl -k https://video.test/", "a device at home calls a server"),
        ("./client1 curl -k https://ads.test/", "one that is blocked"),
        ("./attacker curl --interface 198.51.100.7 203.0.113.1:8080", "a listed source knocks"),
        ("./router nft list ruleset", "the router's rules, Sluice's among them"),
        ("./client2 bash", "a shell on a device; names are looked up at the router"),
    ] {
        let _infallible = writeln!(text, "  {command:60} # {about}");
    }
    let _infallible =
        writeln!(text, "\nEdit {} and run ./sluice reload to change the rules.", config.display());
    say(&text);
    while wait::interrupted().is_ok() {
        wait::pause(std::time::Duration::from_millis(100));
    }
    Ok(())
}

/// The shell command that runs its arguments on a host.
fn enter(host: &Host) -> String {
    let inside = format!("nsenter --net=/run/netns/{}", host.netns.name());
    match &host.resolver {
        None => format!("exec {inside} \"$@\""),
        Some(resolver) => format!(
            "exec {inside} unshare --mount sh -c \
             'mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"' '{}' \"$@\"",
            resolver.display()
        ),
    }
}

fn script(path: &Path, command: &str) -> Result<()> {
    let what = || format!("write {}", path.display());
    fs::write(path, format!("#!/bin/sh\n{command}\n")).attempt(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).attempt(what)
}
