//! What a direction of a TCP stream starts with: a ClientHello, a request of plain HTTP (also of
//! HTTP/2), lines of text that ask for TLS (STARTTLS), or something else.

use sluice_abi::flow::{Direction, FlowKey};

use super::judge::{Judge, Judgement};
use super::message::{Hello, News, Request};
use super::outcome::Cause;
use crate::inspect::ja::Transport;
use crate::inspect::protocol::{Seen, of_stream};
use crate::inspect::tls::{Answer, ClientHello, Finder, Joined, client_hello};
use crate::inspect::upgrade::{self, Upgrade};
use crate::inspect::{http, http2};

/// What the bytes so far are.
pub(super) enum Opening<'a> {
    /// They may become a message that names a server.
    NeedMore,
    /// They started as one and went wrong.
    Failed(Cause),
    Hello(ClientHello<'a>),
    Request(http::Request<'a>),
    Request2(Box<http2::Request>),
    /// Lines of a protocol that may go over to TLS.
    Lines,
    /// Behind so many bytes TLS begins.
    Upgraded(usize),
    Other,
}

impl<'a> Opening<'a> {
    /// Reads `bytes`. `finder` remembers how far earlier calls with fewer of them got.
    pub(super) fn read(finder: &mut Finder, bytes: &'a [u8], joined: &'a mut Joined) -> Self {
        match client_hello(finder, bytes, joined) {
            Answer::NeedMore => return Self::NeedMore,
            Answer::Malformed(cause) => return Self::Failed(Cause::MalformedTls(cause)),
            Answer::Hello(hello) => return Self::Hello(hello),
            Answer::NotTls => {}
        }
        match http2::request(bytes) {
            http2::Answer::Malformed(cause) => return Self::Failed(Cause::MalformedHttp2(cause)),
            http2::Answer::Request(request) => return Self::Request2(request),
            http2::Answer::NeedMore => return Self::NeedMore,
            http2::Answer::NotHttp2 => {}
        }
        match http::request(bytes) {
            http::Answer::Malformed(cause) => return Self::Failed(Cause::MalformedHttp(cause)),
            http::Answer::Request(request) => return Self::Request(request),
            // A command of a mail client may become a request, until its line ends.
            http::Answer::NeedMore => return Self::NeedMore,
            http::Answer::NotHttp => {}
        }
        match upgrade::look(bytes) {
            Upgrade::Never => Self::Other,
            Upgrade::Lines => Self::Lines,
            Upgrade::At(start) => Self::Upgraded(start),
        }
    }

    /// The message that names a server, and what it means.
    pub(super) fn news(
        &self,
        key: FlowKey,
        direction: Direction,
        judge: Judge<'_>,
    ) -> Option<(News, Judgement)> {
        match self {
            Self::Hello(hello) => {
                let owned = Box::new(Hello::new(hello, key, direction, Transport::Tcp));
                let judgement = judge.hello(&owned);
                Some((News::Hello(owned), judgement))
            }
            Self::Request(request) => {
                Some(Self::asked(Request::new(request, key, direction), judge))
            }
            Self::Request2(request) => {
                Some(Self::asked(Request::of_http2(request, key, direction), judge))
            }
            _ => None,
        }
    }

    fn asked(request: Request, judge: Judge<'_>) -> (News, Judgement) {
        let sentence = judge.request(&request);
        (News::Request(Box::new(request)), Ok(sentence))
    }
}

/// What a stream that starts with `bytes` seems to speak.
pub(super) fn protocol(bytes: &[u8], key: &FlowKey, direction: Direction) -> Option<Seen> {
    of_stream(bytes, [key.source(direction).1, key.destination(direction).1])
}
