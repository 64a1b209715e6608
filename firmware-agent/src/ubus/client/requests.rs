//! What a client asks of ubusd and of objects.

use std::time::Duration;

use smol::channel::{Receiver, bounded};

use super::{ADDED, Client, Error, Role, Waiting, within};
use crate::ubus::blob::Malformed;
use crate::ubus::blobmsg::{Members, Writer};
use crate::ubus::message::{Frame, Kind, Message, Status};

/// How long ubusd itself may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The object that hands out events.
const EVENTS: u32 = 1;

/// An object that is there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its name.
    pub path: String,
    /// Its number, until its owner or ubusd goes.
    pub object: u32,
    /// Its methods, as [`Members`].
    pub signature: Vec<u8>,
}

/// Completes a message.
type With<'a> = &'a dyn Fn(Frame) -> Frame;

/// Gives up a request that nobody waits for any more.
struct Place<'a>(&'a Client, u16);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.borrow_mut().remove(&self.1);
    }
}

impl Client {
    /// Objects with this name; one with a star at its end means all that begin so.
    pub async fn lookup(&self, path: &str) -> Result<Vec<Found>, Error> {
        let frames = self.ask(Kind::Lookup, 0, PATIENCE, None, &|frame| frame.path(path)).await?;
        let found = frames.iter().filter_map(|frame| {
            let message = Message::parse(frame).ok()?;
            let signature = message.signature.unwrap_or_default();
            Some(Found {
                path: message.path?.to_owned(),
                object: message.object?,
                signature: signature.bytes().to_vec(),
            })
        });
        Ok(found.collect())
    }

    /// The number of the object with this name, once it is there. `ear` hears of those that come.
    pub async fn wait_for(&self, ear: u32, path: &str) -> Result<u32, Error> {
        // Before looking, or one could come in between.
        let come = self.await_path(path);
        self.listen(ear, ADDED).await?;
        loop {
            match self.lookup(path).await {
                Err(Error::Refused(Status::NotFound)) => {}
                found => match found?.first() {
                    Some(found) => return Ok(found.object),
                    // It is hidden from us.
                    None => return Err(Error::Refused(Status::PermissionDenied)),
                },
            }
            come.recv().await.ok().ok_or(Error::Closed)?;
        }
    }

    fn await_path(&self, path: &str) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        let mut awaited = self.awaited.borrow_mut();
        awaited.retain(|(_, come)| !come.is_closed());
        awaited.push((path.to_owned(), sender));
        receiver
    }

    /// Calls a method; the messages of the answer.
    pub async fn invoke(
        &self,
        object: u32,
        method: &str,
        arguments: &Writer,
        limit: Duration,
    ) -> Result<Vec<Writer>, Error> {
        let frames = self
            .ask(Kind::Invoke, object, limit, None, &|frame| {
                frame.object(object).method(method).data(arguments.bytes())
            })
            .await?;
        frames
            .iter()
            .map(|frame| {
                let data = Message::parse(frame)?.data.unwrap_or_default();
                data.check()?;
                Ok(Writer::from(data))
            })
            .collect::<Result<_, Malformed>>()
            .map_err(Error::from)
    }

    /// Offers an object with methods; its number.
    pub async fn add_object(&self, path: &str, signature: &Writer) -> Result<u32, Error> {
        self.add(Role::Methods, &|frame| frame.path(path).signature(signature.bytes())).await
    }

    /// Makes an object that hears events and notifications; its number.
    pub async fn add_ear(&self) -> Result<u32, Error> {
        self.add(Role::Ear, &|frame| frame).await
    }

    async fn add(&self, role: Role, with: With<'_>) -> Result<u32, Error> {
        let frames = self.ask(Kind::AddObject, 0, PATIENCE, Some(role), with).await?;
        let mut numbers = frames.iter().filter_map(|frame| Message::parse(frame).ok()?.object);
        numbers.next().ok_or(Error::Malformed(Malformed::Value))
    }

    /// Lets `ear` hear events with this name; one with a star at its end means all that begin so.
    pub async fn listen(&self, ear: u32, pattern: &str) -> Result<(), Error> {
        let mut arguments = Writer::default();
        arguments.int32("object", ear.cast_signed());
        arguments.text("pattern", pattern);
        self.invoke(EVENTS, "register", &arguments, PATIENCE).await.map(drop)
    }

    /// Sends an event to all who listen.
    pub async fn send_event(&self, event: &str, data: Members<'_>) -> Result<(), Error> {
        let mut arguments = Writer::default();
        arguments.text("id", event);
        arguments.table("data", |writer| {
            data.flatten().for_each(|(name, value)| writer.copy(name, value));
        });
        self.invoke(EVENTS, "send", &arguments, PATIENCE).await.map(drop)
    }

    /// Lets `ear` hear the notifications of an object.
    pub async fn subscribe(&self, ear: u32, target: u32) -> Result<(), Error> {
        let with = |frame: Frame| frame.object(ear).target(target);
        self.ask(Kind::Subscribe, 0, PATIENCE, None, &with).await.map(drop)
    }

    /// Whether somebody wants notifications of our object.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.is_wanted.get()
    }

    /// Tells those who are subscribed to our object, and waits for none of them; nothing is sent
    /// where there is nobody.
    pub fn notify(&self, object: u32, event: &str, data: &Writer) -> Result<(), Error> {
        if !self.is_wanted() {
            return Ok(());
        }
        let frame = Frame::new(Kind::Notify, self.next_seq(), object);
        self.push(frame.object(object).method(event).data(data.bytes()).no_reply())
    }

    /// Sends a request and waits for its status.
    async fn ask(
        &self,
        kind: Kind,
        peer: u32,
        limit: Duration,
        role: Option<Role>,
        with: With<'_>,
    ) -> Result<Vec<Vec<u8>>, Error> {
        let seq = self.next_seq();
        let (done, answer) = bounded(1);
        let waiting = Waiting { role, frames: Vec::new(), len: 0, done };
        self.waiting.borrow_mut().insert(seq, waiting);
        let _place = Place(self, seq);
        self.push(with(Frame::new(kind, seq, peer)))?;
        within(limit, async {
            match answer.recv().await {
                Ok(answer) => answer.map_err(Error::Refused),
                Err(_) => Err(Error::Closed),
            }
        })
        .await
    }
}
