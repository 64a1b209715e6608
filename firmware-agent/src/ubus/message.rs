//! Messages: a header of eight bytes and one attribute that holds the others.

use super::blob::{self, Attributes, Malformed};
use super::blobmsg::{self, Members};

/// Bytes of a header.
pub const HEADER: usize = 8;
/// Longest message without its header; a longer one makes ubusd close the connection.
pub const LEN_MAX: usize = 1 << 20;

/// What a message is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Kind {
    /// The first word of ubusd.
    Hello = 0,
    /// The end of an answer.
    Status = 1,
    /// A part of an answer.
    Data = 2,
    /// Are you there?
    Ping = 3,
    /// Which objects are there?
    Lookup = 4,
    /// Call of a method.
    Invoke = 5,
    /// An object is there from now on.
    AddObject = 6,
    /// It is not any more.
    RemoveObject = 7,
    /// Notifications of an object are wanted.
    Subscribe = 8,
    /// They are not, or the object is gone.
    Unsubscribe = 9,
    /// A notification, or word that somebody wants them.
    Notify = 10,
    /// Copies of messages.
    Monitor = 11,
}

impl Kind {
    const ALL: [Self; 12] = [
        Self::Hello,
        Self::Status,
        Self::Data,
        Self::Ping,
        Self::Lookup,
        Self::Invoke,
        Self::AddObject,
        Self::RemoveObject,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Notify,
        Self::Monitor,
    ];
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Status {
    /// It did not.
    #[error("ok")]
    Ok,
    /// A message that means nothing.
    #[error("invalid command")]
    InvalidCommand,
    /// An argument is missing or wrong.
    #[error("invalid argument")]
    InvalidArgument,
    /// The object has no such method.
    #[error("method not found")]
    MethodNotFound,
    /// There is no such object.
    #[error("not found")]
    NotFound,
    /// There is nothing to tell.
    #[error("no data")]
    NoData,
    /// Who asked may not.
    #[error("permission denied")]
    PermissionDenied,
    /// It took too long.
    #[error("timeout")]
    Timeout,
    /// Not here.
    #[error("not supported")]
    NotSupported,
    /// Something else.
    #[error("unknown error")]
    Unknown,
    /// The connection ended.
    #[error("connection failed")]
    ConnectionFailed,
    /// No room.
    #[error("out of memory")]
    NoMemory,
    /// Something could not be read.
    #[error("parse error")]
    Parse,
    /// The system refused.
    #[error("system error")]
    System,
}

impl Status {
    const ALL: [Self; 14] = [
        Self::Ok,
        Self::InvalidCommand,
        Self::InvalidArgument,
        Self::MethodNotFound,
        Self::NotFound,
        Self::NoData,
        Self::PermissionDenied,
        Self::Timeout,
        Self::NotSupported,
        Self::Unknown,
        Self::ConnectionFailed,
        Self::NoMemory,
        Self::Parse,
        Self::System,
    ];

    /// The status with this number; one that is not known is an unknown error.
    #[must_use]
    pub fn from_code(code: u32) -> Self {
        Self::ALL.get(code as usize).copied().unwrap_or(Self::Unknown)
    }

    /// Its number.
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }
}

/// Ids of the attributes of a message.
mod id {
    pub(super) const STATUS: u8 = 1;
    pub(super) const PATH: u8 = 2;
    pub(super) const OBJECT: u8 = 3;
    pub(super) const METHOD: u8 = 4;
    pub(super) const KIND: u8 = 5;
    pub(super) const SIGNATURE: u8 = 6;
    pub(super) const DATA: u8 = 7;
    pub(super) const TARGET: u8 = 8;
    pub(super) const ACTIVE: u8 = 9;
    pub(super) const NO_REPLY: u8 = 10;
    pub(super) const USER: u8 = 12;
}

/// A message that was received. Of what it can carry the rest is not used here.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Message<'a> {
    /// What it is for; `None` is skipped.
    pub kind: Option<Kind>,
    /// Which request it belongs to.
    pub seq: u16,
    /// Whom it is about.
    pub peer: u32,
    /// How it ended.
    pub status: Option<Status>,
    /// Name of an object.
    pub path: Option<&'a str>,
    /// Number of an object.
    pub object: Option<u32>,
    /// Name of a method, an event or a notification.
    pub method: Option<&'a str>,
    /// Methods of an object.
    pub signature: Option<Members<'a>>,
    /// Arguments or an answer.
    pub data: Option<Members<'a>>,
    /// Another object.
    pub target: Option<u32>,
    /// Whether somebody is subscribed.
    pub active: Option<bool>,
    /// Nobody waits for an answer.
    pub no_reply: bool,
    /// Who calls.
    pub user: Option<&'a str>,
}

impl<'a> Message<'a> {
    /// Reads a whole message. Attributes that are not known or have another form are left out.
    pub fn parse(frame: &'a [u8]) -> Result<Self, Malformed> {
        let len = frame_len(frame)?.ok_or(Malformed::Length)?;
        if frame.len() != len {
            return Err(Malformed::Length);
        }
        let (header, body) = frame.split_first_chunk::<HEADER>().ok_or(Malformed::Length)?;
        let [version, kind, s0, s1, p0, p1, p2, p3] = *header;
        let mut message = Self {
            kind: Kind::ALL.get(usize::from(kind)).copied().filter(|_| version == 0),
            seq: u16::from_be_bytes([s0, s1]),
            peer: u32::from_be_bytes([p0, p1, p2, p3]),
            ..Self::default()
        };
        for attribute in Attributes::new(body.get(blob::HEAD..).unwrap_or_default()) {
            let attribute = attribute?;
            message.take(attribute.id, attribute.data);
        }
        Ok(message)
    }

    fn take(&mut self, id: u8, data: &'a [u8]) {
        let number = || data.try_into().ok().map(u32::from_be_bytes);
        let flag = || matches!(data, [flag] if *flag != 0);
        match id {
            id::STATUS => self.status = number().map(Status::from_code),
            id::PATH => self.path = blobmsg::text(data),
            id::OBJECT => self.object = number(),
            id::METHOD => self.method = blobmsg::text(data),
            id::SIGNATURE => self.signature = Some(Members::new(data)),
            id::DATA => self.data = Some(Members::new(data)),
            id::TARGET => self.target = number(),
            id::ACTIVE => self.active = Some(flag()),
            id::NO_REPLY => self.no_reply = flag(),
            id::USER => self.user = blobmsg::text(data),
            _ => {}
        }
    }
}

/// Bytes of the message that begins here; `None` until that can be said.
pub fn frame_len(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(head) = bytes.get(HEADER..).and_then(<[u8]>::first_chunk::<{ blob::HEAD }>) else {
        return Ok(None);
    };
    let len = u32::from_be_bytes(*head) as usize & blob::LEN_MAX;
    match len {
        0..blob::HEAD => Err(Malformed::Length),
        blob::HEAD..=LEN_MAX => Ok(Some(HEADER + len)),
        len => Err(Malformed::TooLong(len)),
    }
}

/// A message to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame(Vec<u8>);

impl Frame {
    /// A message without attributes.
    #[must_use]
    pub fn new(kind: Kind, seq: u16, peer: u32) -> Self {
        let mut bytes = vec![0, kind as u8];
        bytes.extend(seq.to_be_bytes());
        bytes.extend(peer.to_be_bytes());
        blob::begin(&mut bytes, 0, false);
        Self(bytes)
    }

    /// How it ended.
    #[must_use]
    pub fn status(self, status: Status) -> Self {
        self.number(id::STATUS, status.code())
    }

    /// Name of an object.
    #[must_use]
    pub fn path(self, path: &str) -> Self {
        self.text(id::PATH, path)
    }

    /// Number of an object.
    #[must_use]
    pub fn object(self, object: u32) -> Self {
        self.number(id::OBJECT, object)
    }

    /// Name of a method, an event or a notification.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        self.text(id::METHOD, method)
    }

    /// Number of the form that an object has.
    #[must_use]
    pub fn form(self, form: u32) -> Self {
        self.number(id::KIND, form)
    }

    /// Methods of an object.
    #[must_use]
    pub fn signature(self, members: &[u8]) -> Self {
        self.attribute(id::SIGNATURE, members)
    }

    /// Arguments or an answer.
    #[must_use]
    pub fn data(self, members: &[u8]) -> Self {
        self.attribute(id::DATA, members)
    }

    /// Another object.
    #[must_use]
    pub fn target(self, object: u32) -> Self {
        self.number(id::TARGET, object)
    }

    /// Whether somebody is subscribed.
    #[must_use]
    pub fn active(self, is: bool) -> Self {
        self.attribute(id::ACTIVE, &[u8::from(is)])
    }

    /// Nobody waits for an answer.
    #[must_use]
    pub fn no_reply(self) -> Self {
        self.attribute(id::NO_REPLY, &[1])
    }

    /// Who calls.
    #[must_use]
    pub fn user(self, name: &str) -> Self {
        self.text(id::USER, name)
    }

    /// The bytes, unless there are too many.
    pub fn finish(self) -> Result<Vec<u8>, Malformed> {
        let mut bytes = self.0;
        blob::end(&mut bytes, HEADER);
        match bytes.len() - HEADER {
            ..=LEN_MAX => Ok(bytes),
            len => Err(Malformed::TooLong(len)),
        }
    }

    fn number(self, id: u8, number: u32) -> Self {
        self.attribute(id, &number.to_be_bytes())
    }

    fn text(mut self, id: u8, text: &str) -> Self {
        let start = blob::begin(&mut self.0, id, false);
        self.0.extend(text.bytes().filter(|byte| *byte != 0));
        self.0.push(0);
        blob::end(&mut self.0, start);
        self
    }

    fn attribute(mut self, id: u8, data: &[u8]) -> Self {
        let start = blob::begin(&mut self.0, id, false);
        self.0.extend(data);
        blob::end(&mut self.0, start);
        self
    }
}
