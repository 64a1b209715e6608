//! A connection to ubusd.
//!
//! One task runs [`Client::run`], which alone reads and writes; others ask through the same value.
//! Descriptors that come with a message are closed by the kernel, because nobody takes them.

mod requests;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use smol::channel::{Receiver, Sender, bounded};
use smol::io::{AsyncReadExt as _, AsyncWriteExt as _};
use smol::{Async, Timer, future};

use super::blob::Malformed;
use super::blobmsg::{Members, Writer};
use super::inbox::Inbox;
use super::message::{Frame, Kind, Message, Status};

pub use self::requests::Found;

/// How long ubusd may take to say hello.
const HELLO: Duration = Duration::from_secs(5);
/// Bytes that wait to be sent; with more ubusd does not read any more.
const OUT_MAX: usize = 4 << 20;
/// Bytes that an answer may have in all its messages.
const ANSWER_MAX: usize = 4 << 20;
/// Name of the event that an object has come.
const ADDED: &str = "ubus.object.add";

/// Why the bus does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// ubusd closed it.
    #[error("ubusd closed the connection")]
    Closed,
    /// What ubusd sent is none of its messages, or one of ours would be too long.
    #[error("{0}")]
    Malformed(#[from] Malformed),
    /// No answer in time.
    #[error("no answer in {} s", .0.as_secs())]
    Late(Duration),
    /// The answer says no.
    #[error("{0}")]
    Refused(Status),
    /// More was to be sent than ubusd reads.
    #[error("ubusd does not read")]
    Stuck,
}

/// A call of one of our methods.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Name of the method.
    pub method: &'a str,
    /// Its arguments, unchecked.
    pub arguments: Members<'a>,
    /// Who calls, as ubusd knows.
    pub user: Option<&'a str>,
}

/// What a call is answered when it is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// The status.
    pub status: Status,
    /// Why, for people.
    pub why: String,
}

impl Refusal {
    /// A refusal with its reason.
    #[must_use]
    pub fn new(status: Status, why: impl Into<String>) -> Self {
        Self { status, why: why.into() }
    }

    /// The reason as it is sent; nothing without one.
    fn members(&self) -> Writer {
        let mut members = Writer::default();
        if !self.why.is_empty() {
            members.text("error", &self.why);
        }
        members
    }
}

/// Who answers and listens.
pub trait Handler {
    /// The answer to a call.
    fn call(&self, call: &Call<'_>) -> Result<Writer, Refusal>;
    /// Somebody wants notifications of our object, or nobody does any more.
    fn wanted(&self, is: bool);
    /// An event, or a notification of an object that we are subscribed to, with the number of the ear
    /// that it came to.
    fn heard(&self, ear: u32, event: &str, data: Members<'_>);
    /// An object that we were subscribed to is gone.
    fn gone(&self, object: u32);
}

/// What an object of ours is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Role {
    /// It has methods.
    Methods,
    /// Events and notifications come to it.
    Ear,
}

/// A request that has no status yet.
struct Waiting {
    role: Option<Role>,
    frames: Vec<Vec<u8>>,
    len: usize,
    done: Sender<Result<Vec<Vec<u8>>, Status>>,
}

/// A connection.
pub struct Client {
    stream: Async<UnixStream>,
    seq: Cell<u16>,
    out: RefCell<Vec<u8>>,
    has_out: (Sender<()>, Receiver<()>),
    waiting: RefCell<BTreeMap<u16, Waiting>>,
    objects: RefCell<BTreeMap<u32, Role>>,
    /// Paths that somebody waits for.
    awaited: RefCell<Vec<(String, Sender<()>)>>,
    inbox: RefCell<Inbox>,
    is_wanted: Cell<bool>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects to the socket at `path` and waits for the first word.
    pub async fn connect(path: &Path) -> Result<Self, Error> {
        Self::greet(Async::<UnixStream>::connect(path).await?).await
    }

    /// A client on a connection that is there.
    pub async fn greet(stream: Async<UnixStream>) -> Result<Self, Error> {
        let client = Self {
            stream,
            seq: Cell::default(),
            out: RefCell::default(),
            has_out: bounded(1),
            waiting: RefCell::default(),
            objects: RefCell::default(),
            awaited: RefCell::default(),
            inbox: RefCell::default(),
            is_wanted: Cell::default(),
        };
        within(HELLO, async {
            let frame = client.receive().await?;
            match Message::parse(&frame)?.kind {
                Some(Kind::Hello) => Ok(()),
                _ => Err(Malformed::Value.into()),
            }
        })
        .await?;
        Ok(client)
    }

    /// Reads and writes until the connection ends; requests are answered meanwhile.
    pub async fn run(&self, handler: &dyn Handler) -> Error {
        let read = async {
            loop {
                let step = self.receive().await.and_then(|frame| self.take(frame, handler));
                if let Err(error) = step {
                    return error;
                }
                // Each call is work, and others wait for the thread.
                future::yield_now().await;
            }
        };
        let error = future::or(read, self.write()).await;
        // Nobody will answer them.
        self.waiting.borrow_mut().clear();
        self.awaited.borrow_mut().clear();
        error
    }

    /// The next whole message.
    async fn receive(&self) -> Result<Vec<u8>, Error> {
        let mut chunk = [0; 4096];
        loop {
            if let Some(frame) = self.inbox.borrow_mut().next_frame()? {
                return Ok(frame);
            }
            match (&self.stream).read(&mut chunk).await? {
                0 => return Err(Error::Closed),
                len => self.inbox.borrow_mut().push(chunk.get(..len).unwrap_or_default()),
            }
        }
    }

    /// Sends what there is to send, always.
    async fn write(&self) -> Error {
        loop {
            let bytes = self.out.take();
            if bytes.is_empty() {
                if self.has_out.1.recv().await.is_err() {
                    return Error::Closed;
                }
            } else if let Err(error) = (&self.stream).write_all(&bytes).await {
                return error.into();
            }
        }
    }

    /// Puts a message behind those that wait to be sent.
    fn push(&self, frame: Frame) -> Result<(), Error> {
        let bytes = frame.finish()?;
        let mut out = self.out.borrow_mut();
        if out.len() + bytes.len() > OUT_MAX {
            return Err(Error::Stuck);
        }
        out.extend(bytes);
        let _ = self.has_out.0.try_send(());
        Ok(())
    }

    fn next_seq(&self) -> u16 {
        let waiting = self.waiting.borrow();
        // There are never so many that none is free.
        let free = (1..=u16::MAX).map(|step| self.seq.get().wrapping_add(step));
        let seq = free.into_iter().find(|seq| *seq != 0 && !waiting.contains_key(seq));
        self.seq.set(seq.unwrap_or_default());
        self.seq.get()
    }

    fn take(&self, frame: Vec<u8>, handler: &dyn Handler) -> Result<(), Error> {
        let message = Message::parse(&frame)?;
        match message.kind {
            Some(Kind::Data) => {
                let (seq, object) = (message.seq, message.object);
                self.answered(seq, object, frame);
            }
            Some(Kind::Status) => {
                if let Some(waiting) = self.waiting.borrow_mut().remove(&message.seq) {
                    let _ = waiting.done.try_send(match message.status {
                        Some(Status::Ok) => Ok(waiting.frames),
                        status => Err(status.unwrap_or(Status::Unknown)),
                    });
                }
            }
            Some(Kind::Invoke) => return self.invoked(&message, handler),
            Some(Kind::Notify) => {
                if let Some(is) = message.active {
                    self.is_wanted.set(is);
                    handler.wanted(is);
                }
            }
            Some(Kind::Unsubscribe) => {
                if let Some(target) = message.target {
                    handler.gone(target);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Keeps a part of an answer. An object is known before the first message for it, which may be
    /// the next one.
    fn answered(&self, seq: u16, object: Option<u32>, frame: Vec<u8>) {
        let mut all = self.waiting.borrow_mut();
        let Some(waiting) = all.get_mut(&seq) else { return };
        if let (Some(role), Some(object)) = (waiting.role, object) {
            self.objects.borrow_mut().insert(object, role);
        }
        waiting.len += frame.len();
        if waiting.len <= ANSWER_MAX {
            waiting.frames.push(frame);
        }
    }

    /// Answers a call, or takes an event or a notification.
    fn invoked(&self, message: &Message<'_>, handler: &dyn Handler) -> Result<(), Error> {
        let Some(object) = message.object else { return Ok(()) };
        let role = self.objects.borrow().get(&object).copied();
        let answer = match (role, message.method, message.data) {
            (None, ..) => Err(Refusal::new(Status::NotFound, "")),
            (_, None, _) | (_, _, None) => Err(Refusal::new(Status::InvalidArgument, "")),
            (Some(Role::Methods), Some(method), Some(arguments)) => {
                handler.call(&Call { method, arguments, user: message.user })
            }
            (Some(Role::Ear), Some(event), Some(data)) => {
                if data.check().is_ok() {
                    self.heard((object, event), data, handler);
                }
                Ok(Writer::default())
            }
        };
        if message.no_reply {
            return Ok(());
        }
        let new = |kind| Frame::new(kind, message.seq, message.peer);
        let end = |status| new(Kind::Status).status(status).object(object);
        let status = match answer {
            Ok(writer) => match self.tell(new(Kind::Data).object(object), &writer) {
                Err(Error::Malformed(_)) => {
                    let refusal = Refusal::new(Status::NoMemory, "the answer is too long");
                    self.tell(new(Kind::Data).object(object), &refusal.members())?;
                    refusal.status
                }
                result => result.map(|()| Status::Ok)?,
            },
            Err(refusal) => {
                self.tell(new(Kind::Data).object(object), &refusal.members())?;
                refusal.status
            }
        };
        self.push(end(status))
    }

    /// Sends a part of an answer, unless it is empty.
    fn tell(&self, frame: Frame, members: &Writer) -> Result<(), Error> {
        if members.bytes().is_empty() { Ok(()) } else { self.push(frame.data(members.bytes())) }
    }

    fn heard(&self, (ear, event): (u32, &str), data: Members<'_>, handler: &dyn Handler) {
        if event == ADDED
            && let Some(path) = data.text("path")
        {
            let awaited = self.awaited.borrow();
            for (_, come) in awaited.iter().filter(|(of, _)| of == path) {
                let _ = come.try_send(());
            }
        }
        handler.heard(ear, event, data);
    }
}

/// What `task` gives within `limit`.
async fn within<T>(
    limit: Duration,
    task: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let late = async {
        Timer::after(limit).await;
        Err(Error::Late(limit))
    };
    future::or(task, late).await
}

#[cfg(test)]
mod tests;
