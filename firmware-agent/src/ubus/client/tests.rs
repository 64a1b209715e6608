use std::io::{IoSlice, Read as _, Write as _};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::*;
use crate::ubus::blobmsg::Value;
use crate::ubus::recorded::{Recorded, transcript};

/// The other end, which says its part of a transcript in pieces and compares what it gets.
fn say(mut stream: &UnixStream, who: &str, part: &[Recorded]) {
    for message in part {
        if message.to == who {
            for piece in message.frame.chunks(5) {
                stream.write_all(piece).unwrap();
            }
        } else if message.from == who {
            let mut sent = vec![0; message.frame.len()];
            stream.read_exact(&mut sent).unwrap();
            assert_eq!(sent, message.frame, "as the real client did");
        }
    }
}

/// What a handler was told, and what it answers.
#[derive(Default)]
struct Notes(RefCell<Vec<String>>);

impl Notes {
    fn note(&self, text: String) {
        self.0.borrow_mut().push(text);
    }
}

impl Handler for Notes {
    fn call(&self, call: &Call<'_>) -> Result<Writer, Refusal> {
        self.note(format!("{} by {}", call.method, call.user.unwrap_or_default()));
        let mut answer = Writer::default();
        match call.method {
            "hello" => {
                let name = call.arguments.text("name").unwrap_or_default();
                answer.text("msg", &format!("hello {name}"));
                answer.int32("n", 42);
                answer.int8("ok", 1);
            }
            "fail" => return Err(Refusal::new(Status::PermissionDenied, "")),
            "long" => answer.text("x", &"y".repeat(2 << 20)),
            _ => {}
        }
        Ok(answer)
    }

    fn wanted(&self, is: bool) {
        self.note(format!("wanted {is}"));
    }

    fn heard(&self, _: u32, event: &str, data: Members<'_>) {
        self.note(format!("{event} with {} members", data.count()));
    }

    fn gone(&self, object: u32) {
        self.note(format!("{object:x} is gone"));
    }
}

/// A client that does something while `peer` is the other end; ends with the peer.
fn with<T>(
    peer: impl FnOnce(UnixStream) + Send + 'static,
    script: impl AsyncFnOnce(&Client) -> T,
) -> (T, Vec<String>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let peer = std::thread::spawn(move || peer(theirs));
    let notes = Notes::default();
    let result = RefCell::new(None);
    future::block_on(async {
        let client = Client::greet(Async::new(ours).unwrap()).await.unwrap();
        let script = async {
            let value = script(&client).await;
            *result.borrow_mut() = Some(value);
            future::pending().await
        };
        // Until the other end closes.
        future::or(script, client.run(&notes)).await
    });
    peer.join().unwrap();
    (result.into_inner().unwrap(), notes.0.into_inner())
}

/// The part of a transcript up to the first message that `ends` it.
fn up_to(name: &str, ends: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
    let mut all = transcript(name);
    all.truncate(all.iter().position(ends).unwrap_or(all.len()));
    all
}

/// As `who` in a transcript.
fn as_recorded<T>(
    name: &str,
    who: &'static str,
    ends: impl Fn(&Recorded) -> bool,
    script: impl AsyncFnOnce(&Client) -> T,
) -> (T, Vec<String>) {
    let part = up_to(name, ends);
    with(move |stream| say(&stream, who, &part), script)
}

fn is_refused<T>(result: &Result<T, Error>, status: Status) -> bool {
    matches!(result, Err(Error::Refused(refused)) if *refused == status)
}

/// Objects are looked up and called with the very bytes of the real command.
#[test]
fn objects_are_looked_up_and_called_as_the_real_command_does() {
    let all = |_: &Recorded| false;
    let (found, _) = as_recorded("02-lookup-wildcard.hex", "C1", all, async |client| {
        client.lookup("network.interface.*").await.unwrap()
    });
    let paths: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
    let interfaces = ["lan", "loopback", "wan"].map(|name| format!("network.interface.{name}"));
    assert_eq!(paths, interfaces);
    assert!(Members::new(&found[0].signature).get("renew").is_some());

    let name = "03-lookup-notfound.hex";
    let path = up_to(name, all).into_iter().find(|message| message.from == "C1").unwrap();
    let path = Message::parse(&path.frame).unwrap().path.unwrap().to_owned();
    let (missing, _) = as_recorded(name, "C1", all, async |client| client.lookup(&path).await);
    assert!(is_refused(&missing, Status::NotFound), "{missing:?}");

    let call = async |client: &Client, path: &str, method: &str, arguments: Writer| {
        let object = client.lookup(path).await.unwrap()[0].object;
        client.invoke(object, method, &arguments, HELLO).await
    };
    let mut arguments = Writer::default();
    arguments.text("config", "network");
    arguments.text("section", "wan");
    let (answer, _) = as_recorded("04-call-uci-get.hex", "C1", all, async |client| {
        call(client, "uci", "get", arguments).await.unwrap()
    });
    let Some(Value::Table(values)) = answer[0].members().get("values") else { panic!() };
    assert_eq!(values.text("device"), Some("wan0"));

    let (answer, _) = as_recorded("06-call-bad-method.hex", "C1", all, async |client| {
        call(client, "uci", "nosuch", Writer::default()).await
    });
    assert!(is_refused(&answer, Status::MethodNotFound), "{answer:?}");
    let mut arguments = Writer::default();
    arguments.int32("config", 5);
    let (answer, _) = as_recorded("07-call-bad-arg.hex", "C1", all, async |client| {
        call(client, "uci", "get", arguments).await
    });
    assert!(is_refused(&answer, Status::InvalidArgument), "{answer:?}");
}

/// An object is offered, and its calls are answered, with the very bytes of a real one.
#[test]
fn an_object_is_offered_and_answers_as_a_real_one_does() {
    let removed = |message: &Recorded| message.frame[1] == Kind::RemoveObject as u8;
    let mut signature = Writer::default();
    signature.table("hello", |table| {
        for (name, kind) in [
            ("name", 3),
            ("count", 5),
            ("flag", 7),
            ("list", 1),
            ("opts", 2),
            ("big", 5),
            ("dbl", 8),
        ] {
            table.int32(name, kind);
        }
    });
    signature.table("fail", |_| {});
    signature.table("nodata", |_| {});
    let (number, notes) = as_recorded("09-add-object.hex", "C1", removed, async |client| {
        client.add_object("rig.demo", &signature).await.unwrap()
    });
    assert_eq!(number, 0xc46b_bbc2);
    assert_eq!(notes, ["hello by root", "fail by root", "nodata by root"]);
}

/// Events and notifications are sent and heard with the very bytes of the real command.
#[test]
fn events_and_notifications_are_heard_as_the_real_command_does() {
    let all = |_: &Recorded| false;
    let ((), notes) = as_recorded("08-event-listen-send.hex", "C1", all, async |client| {
        let ear = client.add_ear().await.unwrap();
        client.listen(ear, "demo.*").await.unwrap();
    });
    assert_eq!(notes, ["demo.test with 6 members"]);

    let name = "08-event-listen-send.hex";
    let sent = up_to(name, all).into_iter().find(|message| message.from == "C2").unwrap();
    let sent = Message::parse(&sent.frame).unwrap().data.unwrap();
    let Some(Value::Table(data)) = sent.get("data") else { panic!() };
    as_recorded(name, "C2", all, async |client| {
        client.send_event("demo.test", data).await.unwrap();
    });

    let ((), notes) = as_recorded("10-subscribe-notify.hex", "C2", all, async |client| {
        let ear = client.add_ear().await.unwrap();
        let target = client.lookup("rig.demo").await.unwrap()[0].object;
        client.subscribe(ear, target).await.unwrap();
    });
    assert_eq!(notes, ["tick with 2 members", "16dca22e is gone"]);
}

/// A client of its own, as ubusd sees it: what it asks, and what it is told.
struct Peer(UnixStream);

impl Peer {
    fn greet(stream: UnixStream) -> Self {
        let peer = Self(stream);
        peer.send(Frame::new(Kind::Hello, 0, 77));
        peer
    }

    fn send(&self, frame: Frame) {
        (&self.0).write_all(&frame.finish().unwrap()).unwrap();
    }

    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![0; 12];
        (&self.0).read_exact(&mut frame).unwrap();
        let len = super::super::message::frame_len(&frame).unwrap().unwrap();
        frame.resize(len, 0);
        (&self.0).read_exact(&mut frame[12..]).unwrap();
        frame
    }

    /// The next request, which is answered with an object and a status.
    fn answer(&self, object: Option<u32>, status: Status) -> Vec<u8> {
        let frame = self.frame();
        let (seq, peer) = {
            let message = Message::parse(&frame).unwrap();
            (message.seq, message.peer)
        };
        if let Some(object) = object {
            let answer = Frame::new(Kind::Data, seq, peer).object(object).path("late");
            self.send(answer);
        }
        self.send(Frame::new(Kind::Status, seq, peer).status(status));
        frame
    }

    fn invoke(&self, object: u32, method: &str, data: &Writer) {
        let frame = Frame::new(Kind::Invoke, 9, 5).object(object).method(method);
        self.send(frame.data(data.bytes()));
    }
}

/// It is asked for again when an object with its name has come, and not before.
#[test]
fn an_object_that_comes_later_is_waited_for() {
    let (number, _) = with(
        |stream| {
            let peer = Peer::greet(stream);
            peer.answer(Some(1), Status::Ok);
            peer.answer(None, Status::Ok);
            peer.answer(None, Status::NotFound);
            for path in ["other", "late"] {
                let mut data = Writer::default();
                data.int32("id", 4);
                data.text("path", path);
                peer.invoke(1, ADDED, &data);
                let answer = peer.frame();
                assert_eq!(Message::parse(&answer).unwrap().status, Some(Status::Ok));
            }
            let again = peer.answer(Some(4), Status::Ok);
            assert_eq!(Message::parse(&again).unwrap().path, Some("late"));
        },
        async |client| {
            let ear = client.add_ear().await.unwrap();
            client.wait_for(ear, "late").await.unwrap()
        },
    );
    assert_eq!(number, 4);
}

/// Notifications go out while somebody is subscribed, and nothing does before and after.
#[test]
fn nothing_is_sent_to_nobody() {
    let ((), notes) = with(
        |stream| {
            let peer = Peer::greet(stream);
            peer.answer(Some(8), Status::Ok);
            // Answered without a word of the first notification.
            peer.answer(None, Status::NotFound);
            peer.send(Frame::new(Kind::Notify, 1, 0).object(8).active(true));
            peer.answer(None, Status::NotFound);
            let told = peer.frame();
            let told = Message::parse(&told).unwrap();
            assert_eq!((told.kind, told.peer), (Some(Kind::Notify), 8));
            assert_eq!((told.method, told.no_reply), (Some("two"), true));
            peer.send(Frame::new(Kind::Notify, 2, 0).object(8).active(false));
        },
        async |client| {
            let number = client.add_object("o", &Writer::default()).await.unwrap();
            client.notify(number, "one", &Writer::default()).unwrap();
            assert!(client.lookup("x").await.is_err());
            while !client.is_wanted() {
                future::yield_now().await;
            }
            assert!(client.lookup("x").await.is_err());
            client.notify(number, "two", &Writer::default()).unwrap();
        },
    );
    assert_eq!(notes, ["wanted true", "wanted false"]);
}

/// What ubusd should never send, and what it may, does no harm.
#[test]
fn odd_messages_are_skipped_and_answered() {
    let ((), notes) = with(
        |stream| {
            let peer = Peer::greet(stream);
            peer.answer(Some(8), Status::Ok);
            let mut unknown = Frame::new(Kind::Ping, 3, 0).finish().unwrap();
            unknown[1] = 200;
            (&peer.0).write_all(&unknown).unwrap();
            peer.send(Frame::new(Kind::Status, 999, 0).status(Status::Ok));
            peer.send(Frame::new(Kind::Invoke, 9, 5).object(8).method("hello"));
            let status = |frame: &[u8]| Message::parse(frame).unwrap().status;
            assert_eq!(status(&peer.frame()), Some(Status::InvalidArgument));
            peer.invoke(7, "hello", &Writer::default());
            assert_eq!(status(&peer.frame()), Some(Status::NotFound));
            let quiet = Frame::new(Kind::Invoke, 9, 5).object(8).method("hello").data(&[]);
            peer.send(quiet.no_reply());
            peer.invoke(8, "long", &Writer::default());
            let why = peer.frame();
            let why = Message::parse(&why).unwrap().data.unwrap();
            assert_eq!(why.text("error"), Some("the answer is too long"));
            assert_eq!(status(&peer.frame()), Some(Status::NoMemory));
        },
        async |client| _ = client.add_object("o", &Writer::default()).await.unwrap(),
    );
    assert_eq!(notes, ["hello by ", "long by "]);
}

/// Descriptors that come with a message are not kept open.
#[test]
fn descriptors_are_closed() {
    let (mut reader, writer) = io::pipe().unwrap();
    with(
        move |stream| {
            let peer = Peer::greet(stream);
            peer.answer(Some(8), Status::Ok);
            let call = Frame::new(Kind::Invoke, 9, 5).object(8).method("nodata").data(&[]);
            let call = call.finish().unwrap();
            let fds = [writer.as_raw_fd()];
            let with = [ControlMessage::ScmRights(&fds)];
            let parts = [IoSlice::new(&call)];
            sendmsg::<()>(peer.0.as_raw_fd(), &parts, &with, MsgFlags::empty(), None).unwrap();
            drop(writer);
            peer.frame();
            // Ends when the last writer is closed, while the connection goes on.
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        },
        async |client| _ = client.add_object("o", &Writer::default()).await.unwrap(),
    );
}

/// A request ends with its time, and all of them with the connection.
#[test]
fn requests_end_with_their_time_and_with_the_connection() {
    let ((), _) = with(
        |stream| {
            let peer = Peer::greet(stream);
            peer.frame();
            peer.frame();
        },
        async |client| {
            let none = Writer::default();
            let late = client.invoke(3, "never", &none, Duration::from_millis(20)).await;
            assert!(matches!(late, Err(Error::Late(_))), "{late:?}");
            assert!(client.waiting.borrow().is_empty());
            // The answer would be taken for that of nobody.
            let waiting = client.invoke(3, "never", &none, HELLO);
            future::or(async { drop(waiting.await) }, async {
                while client.waiting.borrow().is_empty() {
                    future::yield_now().await;
                }
            })
            .await;
        },
    );
    // What says something else first is no ubusd.
    let (ours, theirs) = UnixStream::pair().unwrap();
    Peer(theirs).send(Frame::new(Kind::Status, 0, 0));
    let other = future::block_on(Client::greet(Async::new(ours).unwrap()));
    assert!(matches!(other, Err(Error::Malformed(_))), "{other:?}");
}

/// One who does not read cannot make us keep more and more.
#[test]
fn what_nobody_reads_ends_the_connection() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    Peer::greet(theirs.try_clone().unwrap());
    let client = future::block_on(Client::greet(Async::new(ours).unwrap())).unwrap();
    let mut long = Writer::default();
    long.text("x", &"y".repeat(1 << 19));
    let frame = || Frame::new(Kind::Data, 1, 1).data(long.bytes());
    let sent = (0..100).take_while(|_| client.push(frame()).is_ok()).count();
    assert_eq!(sent, 7);
    assert!(matches!(client.push(frame()), Err(Error::Stuck)));
    drop(theirs);
}
