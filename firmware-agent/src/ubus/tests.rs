use serde_json::Value as Json;

use super::blob::{Attributes, Malformed};
use super::blobmsg::{DEPTH_MAX, Members, Value, Writer};
use super::inbox::Inbox;
use super::json;
use super::message::{Frame, HEADER, Kind, LEN_MAX, Message, Status, frame_len};
use super::recorded::{bytes, file, transcripts};

/// The same values, written anew.
fn written_anew(members: Members<'_>) -> Writer {
    let mut writer = Writer::default();
    for member in members {
        let (name, value) = member.unwrap();
        writer.copy(name, value);
    }
    writer
}

/// What the real command sent for a text of JSON is read as that, and written as it was.
#[test]
fn every_value_of_the_real_command_is_read_and_written_exactly() {
    let all = file("blobmsg-vectors.tsv");
    let lines = all.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let (text, hex) = line.split_once('\t').unwrap();
        let frame = bytes(hex);
        let message = Message::parse(&frame).unwrap();
        assert_eq!((message.kind, message.object), (Some(Kind::Invoke), Some(1)), "{text}");
        assert_eq!(message.method, Some("send"));
        let data = message.data.unwrap();
        let Some(Value::Table(sent)) = data.get("data") else { panic!("{text}") };
        let read = Json::Object(json::read(sent).unwrap());
        assert_eq!(read, serde_json::from_str::<Json>(text).unwrap(), "{text}");

        let anew = Frame::new(Kind::Invoke, message.seq, message.peer);
        let anew = anew.object(1).method("send").data(written_anew(data).bytes());
        assert_eq!(anew.finish().unwrap(), frame, "{text}");
        count += 1;
    }
    assert_eq!(count, 20);
}

/// Arguments, answers and signatures of real messages, of every type, are written as they were.
#[test]
fn every_recorded_message_is_read_and_its_values_written_exactly() {
    let mut values = 0;
    for (name, messages) in transcripts() {
        for recorded in messages {
            let frame = &recorded.frame;
            assert_eq!(frame_len(frame), Ok(Some(frame.len())), "{name}");
            let message = Message::parse(frame).unwrap();
            assert!(message.kind.is_some(), "{name}");
            let is_plain = Attributes::new(&frame[HEADER + 4..]).flatten().any(|attribute| {
                // The monitor's command is no blobmsg.
                attribute.id == 7 && attribute.data.first().is_some_and(|first| first & 0x80 == 0)
            });
            for members in [message.data, message.signature].into_iter().flatten() {
                if message.kind == Some(Kind::Monitor) || is_plain {
                    continue;
                }
                assert_eq!(members.check(), Ok(()), "{name}");
                assert_eq!(written_anew(members).members(), members, "{name}");
                values += members.count();
            }
        }
    }
    assert!(values > 300, "{values}");
}

/// However the bytes arrive, the messages are the same.
#[test]
fn messages_in_pieces_are_the_same_messages() {
    for (name, messages) in transcripts() {
        let stream: Vec<u8> = messages.iter().flat_map(|message| message.frame.clone()).collect();
        for step in [1, 7, 12, 13, 4096, stream.len()] {
            let mut inbox = Inbox::default();
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                inbox.push(piece);
                while let Some(frame) = inbox.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            let sent: Vec<_> = messages.iter().map(|message| message.frame.clone()).collect();
            assert_eq!(found, sent, "{name} in pieces of {step}");
        }
    }
}

#[test]
fn a_length_that_no_message_has_ends_the_stream() {
    for (len, fails) in [
        (3, Some(Malformed::Length)),
        (LEN_MAX, None),
        (LEN_MAX + 1, Some(Malformed::TooLong(LEN_MAX + 1))),
        (0xff_ffff, Some(Malformed::TooLong(0xff_ffff))),
    ] {
        let mut inbox = Inbox::default();
        inbox.push(&[0, 2, 0, 1, 0, 0, 0, 0]);
        inbox.push(&(len as u32).to_be_bytes());
        assert_eq!(inbox.next_frame().err(), fails, "{len}");
    }
    let mut long = Writer::default();
    long.text("x", &"y".repeat(LEN_MAX));
    let frame = Frame::new(Kind::Data, 1, 0).data(long.bytes());
    assert!(matches!(frame.finish(), Err(Malformed::TooLong(_))));
}

#[test]
fn unknown_attributes_and_types_are_skipped() {
    let mut frame = Frame::new(Kind::Status, 7, 9).status(Status::NotFound).finish().unwrap();
    // One with an id that nobody has, and a status of another length.
    frame.extend([0x70, 0, 0, 5, 1, 0, 0, 0, 1, 0, 0, 5, 9, 0, 0, 0]);
    frame[11] += 16;
    let message = Message::parse(&frame).unwrap();
    assert_eq!((message.seq, message.peer, message.status), (7, 9, None));
    frame[1] = 99;
    assert_eq!(Message::parse(&frame).unwrap().kind, None);
    (frame[0], frame[1]) = (1, 1);
    assert_eq!(Message::parse(&frame).unwrap().kind, None, "another version");
    assert_eq!(Status::from_code(4), Status::NotFound);
    assert_eq!(Status::from_code(77), Status::Unknown);
    assert_eq!(Status::System.code(), 13);
}

#[test]
fn values_that_cannot_be_are_refused_without_harm() {
    let element = |kind: u8, body: &[u8]| {
        let mut bytes = vec![0x80 | kind, 0, 0, 4 + body.len() as u8];
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let check = |bytes: &[u8]| Members::new(bytes).check();
    assert_eq!(check(&element(5, b"\0\x01a\0\0\0\0\x07")), Ok(()));
    for (bytes, why) in [
        // Without a name, with one that does not end, that is longer than what holds it, no UTF-8.
        (element(5, b""), Malformed::Length),
        (element(5, b"\0\x01ab\0\0\0\x07"), Malformed::Text),
        (element(5, b"\xff\xffa\0\0\0\0\x07"), Malformed::Length),
        (element(5, b"\0\x01\xff\0\0\0\0\x07"), Malformed::Text),
        (element(5, b"\0\x03a\0b\0\0\0\0\0\0\x07"), Malformed::Text),
        // Numbers of another length, text without an end, nothing that is something, no type.
        (element(5, b"\0\x01a\0\0\0\x07"), Malformed::Value),
        (element(4, b"\0\x01a\0\0\0\0\x07"), Malformed::Value),
        (element(6, b"\0\x01a\0\0\0\0\x07"), Malformed::Value),
        (element(7, b"\0\x01a\0"), Malformed::Value),
        (element(8, b"\0\x01a\0\0\0\0\x07"), Malformed::Value),
        (element(3, b"\0\x01a\0bcde"), Malformed::Text),
        (element(3, b"\0\x01a\0\xff\0"), Malformed::Text),
        (element(0, b"\0\x01a\0\0"), Malformed::Value),
        (element(9, b"\0\x01a\0"), Malformed::Value),
        // In a table.
        (element(2, b"\0\x01a\0\x85\0\0\x04"), Malformed::Length),
        (element(1, b"\0\x01a\0\x85\xff\xff\xff"), Malformed::Length),
        // No name at all.
        (vec![5, 0, 0, 8, 0, 0, 0, 7], Malformed::Value),
    ] {
        assert_eq!(check(&bytes), Err(why), "{bytes:02x?}");
        assert!(json::read(Members::new(&bytes)).is_err());
    }
}

#[test]
fn tables_in_tables_end_at_the_bound() {
    fn deep(writer: &mut Writer, depth: usize) {
        if depth > 0 {
            writer.table("t", |writer| deep(writer, depth - 1));
        }
    }
    for (depth, result) in [(DEPTH_MAX, Ok(())), (DEPTH_MAX + 1, Err(Malformed::Depth))] {
        let mut writer = Writer::default();
        deep(&mut writer, depth);
        assert_eq!(writer.members().check(), result);
    }
}
