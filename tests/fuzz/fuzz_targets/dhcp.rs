//! DHCP messages: any bytes are a message or malformed, and what follows the last option changes nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sluice::inspect::dhcp::Message;

/// Everything that is read of a message.
fn told(message: &Message<'_>) -> String {
    let texts = (message.host_name(), message.vendor(), message.parameters());
    assert!(message.routers().count().max(message.name_servers().count()) <= 255 / 4);
    let lists: (Vec<_>, Vec<_>) = (message.routers().collect(), message.name_servers().collect());
    let addresses = (message.client(), message.yours(), message.relay(), message.requested());
    let rest = (message.is_reply(), message.id(), message.mac(), message.kind());
    format!("{texts:?} {lists:?} {addresses:?} {rest:?} {:?} {:?}", message.server(), message.lease_s())
}

fuzz_target!(|data: &[u8]| {
    let Ok(message) = Message::parse(data) else { return };
    let mut ended = data.to_vec();
    ended.push(255);
    let before = told(&message);
    assert_eq!(before, told(&Message::parse(&ended).unwrap()));
    ended.extend(data);
    assert_eq!(before, told(&Message::parse(&ended).unwrap()));
});
