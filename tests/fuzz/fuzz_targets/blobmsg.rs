//! Messages of ubus: any bytes are messages or malformed, however they arrive; what can be read is
//! written so that it is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::ubus::blobmsg::{Members, Writer};
use sluice::ubus::inbox::Inbox;
use sluice::ubus::message::{HEADER, LEN_MAX, Message};
use sluice::ubus::{json, object};

/// Whole messages of a stream in pieces, and whether it ended in a mistake.
fn messages(bytes: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut inbox = Inbox::default();
    let mut all = Vec::new();
    for piece in bytes.chunks(step) {
        inbox.push(piece);
        loop {
            match inbox.next_frame() {
                Ok(Some(frame)) => all.push(frame),
                Ok(None) => break,
                Err(_) => return (all, true),
            }
        }
    }
    (all, false)
}

fn check(members: Members<'_>) {
    let read = json::read(members);
    assert_eq!(read.is_ok(), members.check().is_ok());
    let mut writer = Writer::default();
    for (name, value) in members.flatten() {
        writer.copy(name, value);
    }
    if let Ok(read) = read {
        assert_eq!(json::read(writer.members()), Ok(read.clone()));
        let mut again = Writer::default();
        json::write_all(&mut again, &read);
        assert_eq!(json::read(again.members()), Ok(read));
    }
    for method in object::METHODS {
        let _ = method.request(members);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((&step, bytes)) = data.split_first() else { return };
    let (whole, is_wrong) = messages(bytes, bytes.len().max(1));
    assert_eq!(messages(bytes, usize::from(step) + 1), (whole.clone(), is_wrong));
    for frame in &whole {
        assert!(frame.len() <= HEADER + LEN_MAX);
        if let Ok(message) = Message::parse(frame) {
            for members in [message.data, message.signature].into_iter().flatten() {
                check(members);
            }
        }
    }
    check(Members::new(bytes));
});
