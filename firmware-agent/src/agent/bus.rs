//! The agent on ubus: offers its object, tells those who are subscribed, hears of interfaces and leases.
//!
//! ubusd comes and goes: the agent tries again, and does without meanwhile.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::{Timer, future};

use super::leases::Servers;
use super::running::{Next, Running, State};
use crate::config::Ubus;
use crate::control::report::{Feature, State as Health};
use crate::ubus::blobmsg::{Members, Writer};
use crate::ubus::client::{Call, Client, Error, Handler, Refusal};
use crate::ubus::object;

/// Where ubusd has its socket, and where it had it up to OpenWrt 19.07.
const SOCKETS: [&str; 2] = ["/var/run/ubus/ubus.sock", "/var/run/ubus.sock"];
/// Event of netifd: an interface went up or down.
const INTERFACE: &str = "network.interface";
/// Time until the next try, which doubles with each that fails.
const PAUSE: Duration = Duration::from_millis(250);
/// The most that it becomes.
const PAUSE_MAX: Duration = Duration::from_secs(16);
/// Least time between two looks around because of events.
const LOOK_PAUSE: Duration = Duration::from_millis(400);

/// What is known of the bus.
#[derive(Debug)]
pub(super) struct Bus {
    health: Health,
    rung: &'static str,
    reason: Option<String>,
    /// The configuration may have changed.
    changed: (Sender<()>, Receiver<()>),
}

impl Default for Bus {
    fn default() -> Self {
        Self { health: Health::Starting, rung: "none", reason: None, changed: bounded(1) }
    }
}

impl Bus {
    /// Looks at the configuration again.
    pub(super) fn look_again(&self) {
        let _ = self.changed.0.try_send(());
    }

    fn set(&mut self, health: Health, rung: &'static str, reason: Option<String>) {
        // Told once, not with every try.
        if (self.health, &self.reason) != (health, &reason) {
            match &reason {
                Some(reason) => log::info!("ubus: {reason}"),
                None => log::info!("ubus: {rung}"),
            }
        }
        (self.health, self.rung, self.reason) = (health, rung, reason);
    }
}

impl State {
    pub(super) fn bus_feature(&self) -> Feature {
        let Bus { health, rung, reason, .. } = &self.bus;
        let left_out = self.inspector.notices.left_out() + self.events.left_out();
        let left_out = (left_out != 0).then(|| format!("{left_out} notices were left out"));
        Feature {
            name: "ubus".to_owned(),
            state: *health,
            rung: (*rung).to_owned(),
            reasons: reason.iter().cloned().chain(left_out).collect(),
        }
    }
}

/// Whether there is a bus, for `sluice doctor`.
pub(super) fn probe() -> Feature {
    let place = SOCKETS.iter().find(|place| Path::new(place).exists());
    Feature {
        name: "ubus".to_owned(),
        state: if place.is_some() { Health::Active } else { Health::Off },
        rung: place.map_or("none", |place| place).to_owned(),
        reasons: if place.is_some() { Vec::new() } else { vec![nowhere()] },
    }
}

fn nowhere() -> String {
    format!("no socket {}: the control socket answers all the same", SOCKETS.join(", no socket "))
}

impl Running {
    /// Is on the bus as far as there is one.
    pub(super) async fn follow_bus(&self) -> Next {
        let changed = self.state.lock().bus.changed.1.clone();
        let mut pause = PAUSE;
        loop {
            let wish = self.state.lock().plan.ubus.clone();
            if wish == Ubus::Off {
                let why = "option ubus is off".to_owned();
                self.state.lock().bus.set(Health::Off, "none", Some(why));
            } else {
                let is_registered = Cell::new(false);
                let ended = future::or(self.attend(&wish, &is_registered), async {
                    while changed.recv().await.is_ok() {
                        if self.state.lock().plan.ubus != wish {
                            break;
                        }
                    }
                    None
                });
                let ended = ended.await;
                self.state.lock().events.subscribe(None);
                if is_registered.get() {
                    pause = PAUSE;
                }
                let Some((health, why)) = ended else { continue };
                self.state.lock().bus.set(health, "none", Some(why));
            }
            let wait = async {
                match wish {
                    Ubus::Off => future::pending().await,
                    _ => Timer::after(pause).await,
                };
            };
            future::or(wait, async { _ = changed.recv().await }).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One connection, from its beginning to its end; why it ended.
    async fn attend(&self, wish: &Ubus, is_registered: &Cell<bool>) -> Option<(Health, String)> {
        let (client, path) = match connect(wish).await {
            Ok(found) => found,
            Err(ended) => return Some(ended),
        };
        let (look, looks) = bounded(1);
        let (wake, woken) = bounded(1);
        let servers = Servers::default();
        let ears = Ears { running: self, look, wake, servers: &servers };
        let talk = async {
            let number = match client.add_object(object::PATH, &object::signature()).await {
                Ok(number) => number,
                Err(Error::Refused(status)) => {
                    return Error::Io(io::Error::other(format!(
                        "object {} is refused ({status}): another agent has it, or rights are missing",
                        object::PATH
                    )));
                }
                Err(error) => return error,
            };
            is_registered.set(true);
            self.state.lock().bus.set(Health::Active, "object sluice", None);
            let tell = async {
                loop {
                    if woken.recv().await.is_err() {
                        return Error::Closed;
                    }
                    let waiting = self.state.lock().events.for_bus();
                    for (name, members) in waiting {
                        if let Err(error) = client.notify(number, name, &members) {
                            return error;
                        }
                    }
                }
            };
            let follow = future::or(
                self.follow_interfaces(&client, &looks),
                self.follow_servers(&client, &servers),
            );
            future::or(tell, follow).await
        };
        let error = future::or(client.run(&ears), talk).await;
        self.state.lock().devices.no_bus();
        Some((Health::Degraded, format!("{}: {error}", path.display())))
    }

    /// Looks around when netifd says that an interface changed; the kernel does not tell of name
    /// servers.
    async fn follow_interfaces(&self, client: &Client, looks: &Receiver<()>) -> Error {
        let listen = async {
            let ear = client.add_ear().await?;
            client.listen(ear, INTERFACE).await
        };
        match listen.await {
            Ok(()) => {}
            Err(Error::Refused(status)) => {
                log::info!("ubus: events of interfaces are not for us: {status}");
                return future::pending().await;
            }
            Err(error) => return error,
        }
        while looks.recv().await.is_ok() {
            {
                log::debug!("ubus: an interface changed");
                let mut state = self.state.lock();
                state.look_after_interfaces();
                state.look_around();
            }
            Timer::after(LOOK_PAUSE).await;
        }
        Error::Closed
    }
}

/// A connection, and to which socket.
async fn connect(wish: &Ubus) -> Result<(Client, PathBuf), (Health, String)> {
    let places: Vec<PathBuf> = match wish {
        Ubus::Off => Vec::new(),
        Ubus::On => SOCKETS.iter().map(PathBuf::from).collect(),
        Ubus::At(path) => vec![path.clone()],
    };
    for place in places {
        match Client::connect(&place).await {
            Ok(client) => return Ok((client, place)),
            Err(Error::Io(error))
                if error.kind() == io::ErrorKind::NotFound && *wish == Ubus::On => {}
            Err(error) => return Err((Health::Degraded, format!("{}: {error}", place.display()))),
        }
    }
    Err((Health::Off, nowhere()))
}

/// Answers and hears for the agent.
struct Ears<'a> {
    running: &'a Running,
    look: Sender<()>,
    wake: Sender<()>,
    servers: &'a Servers,
}

impl Handler for Ears<'_> {
    fn call(&self, call: &Call<'_>) -> Result<Writer, Refusal> {
        object::answer(call, self.running)
    }

    fn wanted(&self, is: bool) {
        let waker = is.then(|| self.wake.clone());
        self.running.state.lock().events.subscribe(waker);
    }

    fn heard(&self, ear: u32, event: &str, data: Members<'_>) {
        if event == INTERFACE {
            let _ = self.look.try_send(());
        }
        self.servers.heard(self.running, ear, event, data);
    }

    fn gone(&self, object: u32) {
        self.servers.gone(object);
    }
}
