//! The object `sluice`: its methods are the requests of the control socket, and its answers are the
//! reports of that.
//!
//! What a method is called, what it takes and what of a report it tells is in [`METHODS`]; what a
//! request means is known to [`Request`] alone.

use serde_json::{Map, Value as Json};

use super::blobmsg::{Kind, Members, Value, Writer};
use super::client::{Call, Refusal};
use super::json;
use super::message::{LEN_MAX, Status};
use crate::control::Request;
use crate::control::server::Methods;

/// Name of the object.
pub const PATH: &str = "sluice";
/// Bytes of an answer's data beyond which lists go on in another one: room for what is around them
/// on the way to the caller.
const ANSWER_MAX: usize = LEN_MAX - 4096;
/// uhttpd adds its session to every call.
const SESSION: &str = "ubus_rpc_session";

/// A method.
#[derive(Clone, Copy, Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static [(&'static str, Kind)],
    /// The request that it is.
    request: &'static str,
    tells: Tells,
}

/// What of a report is told.
#[derive(Clone, Copy, Debug)]
enum Tells {
    /// All of it; it is a table.
    All,
    /// These members.
    Some(&'static [&'static str]),
    /// A list under this name, as far as it fits.
    List(&'static str),
    /// A text under this name.
    Text(&'static str),
    /// A table in which this list comes last, as far as it fits, and how many are left out.
    Long(&'static str),
}

const fn method(
    name: &'static str,
    request: &'static str,
    arguments: &'static [(&'static str, Kind)],
    tells: Tells,
) -> Method {
    Method { name, arguments, request, tells }
}

/// Arguments of a decision.
const ABOUT: &[(&str, Kind)] =
    &[("subject", Kind::Text), ("device", Kind::Text), ("seconds", Kind::Int32)];

/// Which events.
const EVENTS: &[(&str, Kind)] = &[
    ("offset", Kind::Int32),
    ("limit", Kind::Int32),
    ("severity", Kind::Text),
    ("kinds", Kind::Text),
    ("since", Kind::Text),
    ("part", Kind::Text),
    ("archived", Kind::Int32),
];

/// The methods.
#[rustfmt::skip]
pub const METHODS: &[Method] = &[
    method("status", "status", &[], Tells::All),
    method("stats", "status", &[], Tells::Some(&["uptime_s", "interfaces", "drops", "netfilter", "queue", "flows", "lists"])),
    method("names", "status", &[], Tells::Some(&["names"])),
    method("flows", "flow_page", &[("offset", Kind::Int32), ("limit", Kind::Int32)], Tells::Long("flows")),
    method("devices", "devices", &[("offset", Kind::Int32), ("limit", Kind::Int32)], Tells::Long("devices")),
    method("alerts", "alerts", &[], Tells::List("alerts")),
    method("events", "event_page", EVENTS, Tells::Long("events")),
    method("why", "why", &[("subject", Kind::Text)], Tells::Long("flows")),
    method("block", "block", &[("subject", Kind::Text), ("seconds", Kind::Int32)], Tells::All),
    method("unblock", "unblock", &[("subject", Kind::Text)], Tells::All),
    method("reload", "reload", &[], Tells::All),
    method("apply", "apply", &[("file", Kind::Text), ("confirm", Kind::Int32), ("from", Kind::Text)], Tells::All),
    method("confirm", "confirm", &[], Tells::Text("told")),
    method("rollback", "rollback", &[], Tells::Text("told")),
    method("allow", "allow", ABOUT, Tells::All),
    method("deny", "deny", ABOUT, Tells::All),
    method("pause", "pause", &[("device", Kind::Text), ("seconds", Kind::Int32)], Tells::All),
    method("resume", "resume", &[("device", Kind::Text)], Tells::All),
    method("limit", "limit", &[("device", Kind::Text), ("kbit", Kind::Int32), ("seconds", Kind::Int32)], Tells::All),
    method("rename", "rename", &[("device", Kind::Text), ("name", Kind::Text)], Tells::All),
    method("forget", "forget", &[("section", Kind::Text)], Tells::All),
    method("archive", "archive", &[("id", Kind::Int32), ("kind", Kind::Text), ("until", Kind::Int32)], Tells::All),
    method("mute", "mute", &[("kind", Kind::Text)], Tells::All),
    method("unmute", "unmute", &[("kind", Kind::Text)], Tells::All),
    method("features", "features", &[], Tells::All),
    method("enable", "enable", &[("name", Kind::Text)], Tells::All),
    method("disable", "disable", &[("name", Kind::Text), ("force", Kind::Int8)], Tells::All),
];

/// The methods as ubusd is told.
#[must_use]
pub fn signature() -> Writer {
    let mut signature = Writer::default();
    for method in METHODS {
        signature.table(method.name, |table| {
            for (name, kind) in method.arguments {
                table.int32(name, *kind as i32);
            }
            table.int32(SESSION, Kind::Text as i32);
        });
    }
    signature
}

/// Answers a call. What changes something is for root, as it is at the control socket.
pub fn answer(call: &Call<'_>, methods: &dyn Methods) -> Result<Writer, Refusal> {
    let refuse = |status| move |why: String| Refusal::new(status, why);
    let method = METHODS.iter().find(|method| method.name == call.method);
    let method = method.ok_or_else(|| Refusal::new(Status::MethodNotFound, ""))?;
    let request = method.request(call.arguments).map_err(refuse(Status::InvalidArgument))?;
    if request.is_write() && call.user != Some("root") {
        let why = "only root may change something".to_owned();
        return Err(Refusal::new(Status::PermissionDenied, why));
    }
    let report = methods.call(request).map_err(refuse(Status::Unknown))?;
    report.value().map(|report| method.tells.of(report)).map_err(refuse(Status::Unknown))
}

impl Method {
    /// The request that a call with these arguments is. Others are left out: uhttpd adds one.
    pub fn request(&self, arguments: Members<'_>) -> Result<Request, String> {
        arguments.check().map_err(|malformed| malformed.to_string())?;
        let mut request = Map::from_iter([("method".to_owned(), self.request.into())]);
        for (name, value) in arguments.flatten() {
            let Some((name, kind)) = self.arguments.iter().find(|(of, _)| *of == name) else {
                continue;
            };
            let value: Json = match (kind, value) {
                (Kind::Text, Value::Text(text)) => text.into(),
                (Kind::Int8, Value::Int8(is)) => (is != 0).into(),
                (Kind::Int32, value) => value.number().map(Json::from).unwrap_or_default(),
                _ => Json::Null,
            };
            if value.is_null() {
                return Err(format!("argument {name} has another type"));
            }
            request.insert((*name).to_owned(), value);
        }
        Request::read(Json::Object(request)).map_err(|error| error.to_string())
    }
}

impl Tells {
    fn of(self, report: Json) -> Writer {
        let mut writer = Writer::default();
        match (self, report) {
            (Self::All, Json::Object(members)) => json::write_all(&mut writer, &members),
            (Self::Some(names), Json::Object(members)) => {
                for (name, value) in members.iter().filter(|(name, _)| names.contains(&&***name)) {
                    json::write(&mut writer, name, value);
                }
            }
            (Self::Text(name), Json::String(text)) => writer.text(name, &text),
            (Self::List(name), Json::Array(values)) => {
                json::write_some(&mut writer, name, &values, ANSWER_MAX);
            }
            (Self::Long(name), Json::Object(mut members)) => {
                let list = members.remove(name).unwrap_or_default();
                json::write_all(&mut writer, &members);
                let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
                let told = json::write_some(&mut writer, name, list, ANSWER_MAX);
                let left_out = Json::from(list.len() - told);
                json::write(&mut writer, "left_out", &left_out);
            }
            // Nothing to tell.
            _ => {}
        }
        writer
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::control::Answer;

    /// Answers everything with `report`, and keeps what was asked.
    #[derive(Default)]
    struct Agent {
        report: Json,
        asked: RefCell<Vec<Request>>,
    }

    impl Methods for Agent {
        fn call(&self, request: Request) -> Result<Answer, String> {
            self.asked.borrow_mut().push(request);
            match &self.report {
                Json::Null => Err("no".to_owned()),
                report => Answer::new(report),
            }
        }
    }

    fn arguments(values: &Json) -> Writer {
        let mut writer = Writer::default();
        json::write_all(&mut writer, values.as_object().unwrap());
        writer
    }

    fn call(
        agent: &Agent,
        method: &str,
        values: &Json,
        user: Option<&str>,
    ) -> Result<Json, Refusal> {
        let arguments = arguments(values);
        let call = Call { method, arguments: arguments.members(), user };
        answer(&call, agent).map(|told| Json::Object(json::read(told.members()).unwrap()))
    }

    /// The request that a method is, with something for each argument.
    fn sample(method: &Method) -> Request {
        let mut values = Writer::default();
        for (name, kind) in method.arguments {
            match kind {
                Kind::Int32 => values.int64(name, 7),
                Kind::Int8 => values.int8(name, 1),
                _ => values.text(name, "192.0.2.1"),
            }
        }
        method.request(values.members()).unwrap()
    }

    #[test]
    fn every_method_is_a_request_whose_arguments_it_has() {
        for method in METHODS {
            let request = serde_json::to_value(sample(method)).unwrap();
            let mut names: Vec<_> = request.as_object().unwrap().keys().cloned().collect();
            names.retain(|name| name != "method");
            let mut arguments: Vec<_> = method.arguments.iter().map(|(name, _)| *name).collect();
            arguments.sort_unstable();
            assert_eq!(names, arguments, "{}", method.name);
        }
    }

    /// R151: what reads is in one set of the rights, what changes something in the other.
    #[test]
    fn the_rights_of_sessions_split_the_methods_by_what_they_do() {
        let file =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../openwrt-package/sluice/files/sluice.acl.json");
        let rights: Json = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        for (set, writes) in [("read", false), ("write", true)] {
            let granted = rights["sluice"][set]["ubus"][PATH].as_array().unwrap();
            let of_kind = METHODS.iter().filter(|method| sample(method).is_write() == writes);
            let names: Vec<_> = of_kind.map(|method| method.name).collect();
            assert_eq!(granted, &names, "{set}");
        }
        let read = &rights["sluice"]["read"]["ubus"];
        assert_eq!(read.as_object().unwrap().len(), 1);
    }

    /// As `01-hello-lookup-list.hex` has those of a real object: a table for each method, with the
    /// type of each argument as 32 bits.
    #[test]
    fn the_signature_names_every_argument_with_its_type() {
        let signature = signature();
        let told = json::read(signature.members()).unwrap();
        assert_eq!(told.len(), METHODS.len());
        assert_eq!(
            told["flows"],
            serde_json::json!({"limit": 5, "offset": 5, "ubus_rpc_session": 3})
        );
        assert_eq!(told["status"], serde_json::json!({"ubus_rpc_session": 3}));
        let Some(Value::Table(why)) = signature.members().get("why") else { panic!() };
        assert_eq!(why.get("subject"), Some(Value::Int32(3)));
    }

    #[test]
    fn only_root_changes_something() {
        let agent = Agent { report: serde_json::json!({"entry": "192.0.2.1"}), ..Agent::default() };
        let subject = serde_json::json!({"subject": "192.0.2.1"});
        for user in [None, Some("nobody")] {
            let refused = call(&agent, "block", &subject, user).unwrap_err();
            assert_eq!(refused.status, Status::PermissionDenied);
            call(&agent, "why", &subject, user).unwrap();
        }
        assert!(agent.asked.borrow().iter().all(|request| !request.is_write()));
        assert_eq!(call(&agent, "block", &subject, Some("root")).unwrap()["entry"], "192.0.2.1");
    }

    #[test]
    fn arguments_are_checked_and_those_that_are_not_known_left_out() {
        let agent = Agent::default();
        let ask = |method: &str, values: Json| call(&agent, method, &values, Some("root"));
        let status = |refused: Result<Json, Refusal>| refused.unwrap_err().status;
        assert_eq!(status(ask("why", serde_json::json!({}))), Status::InvalidArgument);
        assert_eq!(status(ask("why", serde_json::json!({"subject": 1}))), Status::InvalidArgument);
        assert_eq!(
            status(ask("flows", serde_json::json!({"limit": "x"}))),
            Status::InvalidArgument
        );
        assert_eq!(status(ask("nothing", serde_json::json!({}))), Status::MethodNotFound);
        assert_eq!(agent.asked.take(), []);
        // The method's name is no argument, whatever a caller says.
        let values = serde_json::json!({"ubus_rpc_session": "0", "more": [1], "method": "reload"});
        let refused = ask("status", values).unwrap_err();
        assert_eq!((refused.status, refused.why.as_str()), (Status::Unknown, "no"));
        assert_eq!(agent.asked.take(), [Request::Status {}]);
        let broken =
            Call { method: "status", arguments: Members::new(&[0x85, 0, 0, 99]), user: None };
        assert_eq!(answer(&broken, &agent).unwrap_err().status, Status::InvalidArgument);
    }

    /// An answer fits a message however many flows there are; the caller learns what is missing.
    #[test]
    fn a_long_list_ends_where_the_message_does() {
        let flow = serde_json::json!({"name": "x".repeat(2000)});
        let report = serde_json::json!({"total": 1000, "flows": vec![flow; 1000]});
        let agent = Agent { report, ..Agent::default() };
        let arguments = arguments(&serde_json::json!({}));
        let flows = Call { method: "flows", arguments: arguments.members(), user: None };
        let told = answer(&flows, &agent).unwrap();
        assert!(told.bytes().len() + 1024 <= LEN_MAX, "{}", told.bytes().len());
        let told = json::read(told.members()).unwrap();
        let count = told["flows"].as_array().unwrap().len();
        assert!(count > 450, "{count}");
        assert_eq!((&told["total"], &told["left_out"]), (&1000.into(), &(1000 - count).into()));
    }
}
