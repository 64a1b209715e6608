//! A stand-in for ubusd: routes messages between clients as the transcripts of the real one show
//! (`tests/data/ubus`), for objects, calls, subscriptions and events. Everybody is root here.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use sluice::ubus::blobmsg::{Value, Writer};
use sluice::ubus::inbox::Inbox;
use sluice::ubus::message::{Frame, Kind, Message, Status};

use crate::error::{Attempt as _, Result};

/// The object that hands out events.
const EVENTS: u32 = 1;

/// An object that a client offers.
struct Object {
    owner: u32,
    /// Without one it only hears.
    path: Option<String>,
    signature: Vec<u8>,
    /// Object and client of each who is subscribed.
    subscribers: Vec<(u32, u32)>,
    /// Events that it hears.
    patterns: Vec<String>,
}

/// What all connections share.
#[derive(Default)]
struct Table {
    clients: HashMap<u32, UnixStream>,
    objects: HashMap<u32, Object>,
    /// The last number given away.
    last: u32,
    /// Notifications that were sent by owners.
    notified: u64,
}

/// A bus; its clients are cut off with it.
#[derive(Debug)]
pub struct Bus {
    path: PathBuf,
    table: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The table, and whether the bus goes on.
#[derive(Default)]
struct Shared(Mutex<(Table, bool)>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, (Table, bool)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus {
    /// Offers a socket at `path`.
    pub fn start(path: &Path) -> Result<Self> {
        let _ = std::fs::remove_file(path);
        let listener =
            UnixListener::bind(path).attempt(|| format!("listen at {}", path.display()))?;
        let table = Arc::<Shared>::default();
        let shared = Arc::clone(&table);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(std::result::Result::ok) {
                if shared.lock().1 {
                    return;
                }
                let shared = Arc::clone(&shared);
                // Ends when its client or the bus does.
                std::thread::spawn(move || serve(&shared, stream));
            }
        });
        Ok(Self { path: path.to_owned(), table, thread: Some(thread) })
    }

    /// Its socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of the objects that are offered.
    #[must_use]
    pub fn objects(&self) -> Vec<String> {
        let shared = self.table.lock();
        shared.0.objects.values().filter_map(|object| object.path.clone()).collect()
    }

    /// Whether an object hears this event.
    #[must_use]
    pub fn is_heard(&self, event: &str) -> bool {
        let shared = self.table.lock();
        shared.0.objects.values().any(|object| object.hears(event))
    }

    /// How many are subscribed to the object with this name.
    #[must_use]
    pub fn subscribers(&self, path: &str) -> usize {
        let shared = self.table.lock();
        let mut objects = shared.0.objects.values();
        objects.find(|one| one.path.as_deref() == Some(path)).map_or(0, |one| one.subscribers.len())
    }

    /// Notifications that owners sent.
    #[must_use]
    pub fn notified(&self) -> u64 {
        self.table.lock().0.notified
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        {
            let mut shared = self.table.lock();
            shared.1 = true;
            for stream in shared.0.clients.values() {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
        // The thread looks up when somebody comes.
        let _ = UnixStream::connect(&self.path);
        let _ = std::fs::remove_file(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves one client until it goes.
fn serve(shared: &Shared, stream: UnixStream) {
    let Ok(writer) = stream.try_clone() else { return };
    let client = {
        let mut shared = shared.lock();
        let number = shared.0.number();
        shared.0.clients.insert(number, writer);
        shared.0.send(number, Frame::new(Kind::Hello, 0, number));
        number
    };
    let (mut inbox, mut chunk) = (Inbox::default(), [0; 4096]);
    while let Ok(len @ 1..) = (&stream).read(&mut chunk) {
        inbox.push(&chunk[..len]);
        while let Ok(Some(frame)) = inbox.next_frame() {
            if let Ok(message) = Message::parse(&frame) {
                shared.lock().0.take(client, &message);
            }
        }
    }
    shared.lock().0.leave(client);
}

impl Object {
    fn hears(&self, event: &str) -> bool {
        self.patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => event.starts_with(prefix),
            None => event == pattern,
        })
    }
}

impl Table {
    const fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(0x9e37_79b9) | 1 << 30;
        self.last
    }

    fn send(&self, client: u32, frame: Frame) {
        let bytes = frame.finish().ok();
        if let (Some(mut stream), Some(bytes)) = (self.clients.get(&client), bytes) {
            let _ = stream.write_all(&bytes);
        }
    }

    fn leave(&mut self, client: u32) {
        self.clients.remove(&client);
        let gone = self.objects.iter().filter(|(_, object)| object.owner == client);
        let gone: Vec<u32> = gone.map(|(number, _)| *number).collect();
        for number in gone {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u32) {
        let Some(object) = self.objects.remove(&number) else { return };
        for (ear, client) in object.subscribers {
            self.send(client, Frame::new(Kind::Unsubscribe, 1, 0).object(ear).target(number));
        }
        if let Some(path) = object.path {
            self.tell_of("ubus.object.remove", number, &path);
        }
        let mut quiet = Vec::new();
        for (target, other) in &mut self.objects {
            let had = !other.subscribers.is_empty();
            other.subscribers.retain(|(ear, _)| *ear != number);
            if had && other.subscribers.is_empty() {
                quiet.push((*target, other.owner));
            }
        }
        for (target, owner) in quiet {
            self.send(owner, Frame::new(Kind::Notify, 2, 0).object(target).active(false));
        }
    }

    fn tell_of(&self, event: &str, number: u32, path: &str) {
        let mut data = Writer::default();
        data.int32("id", number.cast_signed());
        data.text("path", path);
        self.event(None, event, &data);
    }

    /// Events never come back to who sent them.
    fn event(&self, from: Option<u32>, event: &str, data: &Writer) {
        for (number, object) in &self.objects {
            if object.hears(event) && Some(object.owner) != from {
                let frame = Frame::new(Kind::Invoke, 33, 0).object(*number).method(event);
                self.send(object.owner, frame.data(data.bytes()));
            }
        }
    }

    fn take(&mut self, client: u32, message: &Message<'_>) {
        let (seq, peer) = (message.seq, message.peer);
        let status = match message.kind {
            Some(Kind::Lookup) => Some(self.look_up(client, message)),
            Some(Kind::AddObject) => Some(self.add(client, message)),
            Some(Kind::RemoveObject) => {
                self.remove(message.object.unwrap_or_default());
                Some(Status::Ok)
            }
            Some(Kind::Subscribe) => Some(self.subscribe(client, message)),
            Some(Kind::Invoke) => self.invoke(client, message),
            Some(Kind::Notify) => {
                self.notify(client, message);
                None
            }
            // The owner's answer goes to the client that it names, from the object.
            Some(kind @ (Kind::Data | Kind::Status)) => {
                let object = message.object.unwrap_or_default();
                let frame = Frame::new(kind, seq, object);
                let frame = match (message.status, message.data) {
                    (Some(status), _) => frame.status(status).object(object),
                    (None, data) => frame.object(object).data(data.unwrap_or_default().bytes()),
                };
                self.send(peer, frame);
                None
            }
            _ => Some(Status::InvalidCommand),
        };
        if let Some(status) = status {
            self.send(client, Frame::new(Kind::Status, seq, peer).status(status));
        }
    }

    fn look_up(&self, client: u32, message: &Message<'_>) -> Status {
        let wanted = message.path.unwrap_or("*");
        let fits = |path: &str| match wanted.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix),
            None => path == wanted,
        };
        let mut found = Status::NotFound;
        for (number, object) in &self.objects {
            let Some(path) = object.path.as_deref().filter(|path| fits(path)) else { continue };
            found = Status::Ok;
            let frame = Frame::new(Kind::Data, message.seq, 0).path(path).object(*number);
            self.send(client, frame.form(9).signature(&object.signature));
        }
        found
    }

    fn add(&mut self, client: u32, message: &Message<'_>) -> Status {
        let is_taken = |path| self.objects.values().any(|object| object.path.as_deref() == path);
        if message.path.is_some() && is_taken(message.path) {
            return Status::InvalidArgument;
        }
        let number = self.number();
        let object = Object {
            owner: client,
            path: message.path.map(str::to_owned),
            signature: message.signature.unwrap_or_default().bytes().to_vec(),
            subscribers: Vec::new(),
            patterns: Vec::new(),
        };
        self.objects.insert(number, object);
        self.send(client, Frame::new(Kind::Data, message.seq, 0).object(number).form(9));
        if let Some(path) = message.path {
            self.tell_of("ubus.object.add", number, path);
        }
        Status::Ok
    }

    fn subscribe(&mut self, client: u32, message: &Message<'_>) -> Status {
        let (Some(ear), Some(target)) = (message.object, message.target) else {
            return Status::InvalidArgument;
        };
        let Some(object) = self.objects.get_mut(&target) else { return Status::NotFound };
        object.subscribers.push((ear, client));
        let (first, owner) = (object.subscribers.len() == 1, object.owner);
        if first {
            self.send(owner, Frame::new(Kind::Notify, 1, 0).object(target).active(true));
        }
        Status::Ok
    }

    /// A call goes to the owner, who answers.
    fn invoke(&mut self, client: u32, message: &Message<'_>) -> Option<Status> {
        let (Some(number), Some(method)) = (message.object, message.method) else {
            return Some(Status::InvalidArgument);
        };
        let data = message.data.unwrap_or_default();
        if number == EVENTS {
            return Some(match (method, data.text("id"), data.get("data")) {
                ("send", Some(event), Some(Value::Table(members))) => {
                    self.event(Some(client), event, &Writer::from(members));
                    Status::Ok
                }
                ("register", ..) => {
                    let ear = data.number("object").unwrap_or_default();
                    let pattern = data.text("pattern").unwrap_or_default().to_owned();
                    let ear = self.objects.get_mut(&(ear as i32).cast_unsigned());
                    ear.map_or(Status::NotFound, |ear| {
                        ear.patterns.push(pattern);
                        Status::Ok
                    })
                }
                _ => Status::InvalidArgument,
            });
        }
        let Some(object) = self.objects.get(&number) else { return Some(Status::NotFound) };
        let frame = Frame::new(Kind::Invoke, message.seq, client).object(number).method(method);
        self.send(object.owner, frame.user("root").data(data.bytes()));
        None
    }

    fn notify(&mut self, client: u32, message: &Message<'_>) {
        self.notified += 1;
        let (number, method) = (message.object.unwrap_or_default(), message.method);
        let Some(object) = self.objects.get(&number) else { return };
        for (ear, to) in &object.subscribers {
            let frame = Frame::new(Kind::Invoke, message.seq, client).object(*ear);
            let frame = frame.method(method.unwrap_or_default()).user("root");
            let frame = frame.data(message.data.unwrap_or_default().bytes());
            self.send(*to, if message.no_reply { frame.no_reply() } else { frame });
        }
    }
}
