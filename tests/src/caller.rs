//! Who calls objects of a bus and hears their notifications, as a command would.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;
use sluice::ubus::blobmsg::Writer;
use sluice::ubus::inbox::Inbox;
use sluice::ubus::json;
use sluice::ubus::message::{Frame, Kind, Message, Status};

use crate::error::{Attempt as _, Error, Result};

/// How long an answer may take; emulated and shared machines are slow.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer: its status, and what it tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: Status,
    /// Its members; empty without any.
    pub members: Writer,
}

impl Answer {
    /// What it tells, as the command prints it.
    #[must_use]
    pub fn json(&self) -> Json {
        json::read(self.members.members()).map_or(Json::Null, Json::Object)
    }
}

/// A client.
#[derive(Debug)]
pub struct Caller {
    stream: UnixStream,
    inbox: Inbox,
    seq: u16,
    heard: VecDeque<(String, Json)>,
}

impl Caller {
    /// Connects.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream =
            UnixStream::connect(path).attempt(|| format!("connect to {}", path.display()))?;
        stream.set_read_timeout(Some(LIMIT)).attempt(|| "set a limit".to_owned())?;
        let mut caller = Self { stream, inbox: Inbox::default(), seq: 0, heard: VecDeque::new() };
        caller.frame()?;
        Ok(caller)
    }

    /// Calls a method of the object with this name.
    pub fn call(&mut self, path: &str, method: &str, arguments: &Json) -> Result<Answer> {
        let object = self.look_up(path)?;
        let mut data = Writer::default();
        if let Some(members) = arguments.as_object() {
            json::write_all(&mut data, members);
        }
        self.request(Kind::Invoke, object, |frame| {
            frame.object(object).method(method).data(data.bytes())
        })
        .map(|(answer, _)| answer)
    }

    /// Hears the notifications of the object with this name from now on.
    pub fn subscribe(&mut self, path: &str) -> Result<()> {
        let target = self.look_up(path)?;
        let ear = self.request(Kind::AddObject, 0, |frame| frame)?.1.unwrap_or_default();
        self.request(Kind::Subscribe, 0, |frame| frame.object(ear).target(target)).map(drop)
    }

    /// Offers an object without methods; its number.
    pub fn offer(&mut self, path: &str) -> Result<u32> {
        let (_, object) = self.request(Kind::AddObject, 0, |frame| frame.path(path))?;
        object.ok_or_else(|| Error::Unusable(format!("no number for {path}")))
    }

    /// Tells those who are subscribed to an object of its own.
    pub fn notify(&mut self, object: u32, event: &str, data: &Json) -> Result<()> {
        let mut members = Writer::default();
        json::write_all(&mut members, data.as_object().unwrap_or(&serde_json::Map::new()));
        self.seq += 1;
        let frame = Frame::new(Kind::Notify, self.seq, object).object(object).method(event);
        let frame = frame.data(members.bytes()).no_reply().finish();
        let frame = frame.map_err(|error| Error::Unusable(error.to_string()))?;
        self.stream.write_all(&frame).attempt(|| "send a notification".to_owned())
    }

    /// Sends an event.
    pub fn send_event(&mut self, event: &str, data: &Json) -> Result<()> {
        let mut arguments = Writer::default();
        arguments.text("id", event);
        json::write(&mut arguments, "data", data);
        let with = |frame: Frame| frame.object(1).method("send").data(arguments.bytes());
        self.request(Kind::Invoke, 1, with).map(drop)
    }

    /// The next notification.
    pub fn hear(&mut self) -> Result<(String, Json)> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(heard);
            }
            let frame = self.frame()?;
            self.keep(&frame);
        }
    }

    fn look_up(&mut self, path: &str) -> Result<u32> {
        let (_, object) = self.request(Kind::Lookup, 0, |frame| frame.path(path))?;
        object.ok_or_else(|| Error::Unusable(format!("no object {path}")))
    }

    fn request(
        &mut self,
        kind: Kind,
        peer: u32,
        with: impl FnOnce(Frame) -> Frame,
    ) -> Result<(Answer, Option<u32>)> {
        self.seq += 1;
        let frame = with(Frame::new(kind, self.seq, peer)).finish();
        let frame = frame.map_err(|error| Error::Unusable(error.to_string()))?;
        self.stream.write_all(&frame).attempt(|| "send a request".to_owned())?;
        let mut answer = Answer { status: Status::Ok, members: Writer::default() };
        let mut object = None;
        loop {
            let frame = self.frame()?;
            let Ok(message) = Message::parse(&frame) else { continue };
            match (message.kind, message.seq == self.seq) {
                (Some(Kind::Data), true) => {
                    object = message.object;
                    answer.members = message.data.unwrap_or_default().into();
                }
                (Some(Kind::Status), true) => {
                    answer.status = message.status.unwrap_or(Status::Unknown);
                    return Ok((answer, object));
                }
                _ => self.keep(&frame),
            }
        }
    }

    fn keep(&mut self, frame: &[u8]) {
        let Ok(message) = Message::parse(frame) else { return };
        if let (Some(Kind::Invoke), Some(name)) = (message.kind, message.method) {
            let data = json::read(message.data.unwrap_or_default());
            self.heard.push_back((name.to_owned(), data.map_or(Json::Null, Json::Object)));
        }
    }

    fn frame(&mut self) -> Result<Vec<u8>> {
        let mut chunk = [0; 4096];
        loop {
            let next = self.inbox.next_frame();
            if let Some(frame) = next.map_err(|error| Error::Unusable(error.to_string()))? {
                return Ok(frame);
            }
            let len = self.stream.read(&mut chunk).and_then(|len| match len {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                len => Ok(len),
            });
            self.inbox.push(&chunk[..len.attempt(|| "hear from the bus".to_owned())?]);
        }
    }
}
