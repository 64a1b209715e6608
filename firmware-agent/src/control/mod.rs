//! How others talk to the agent: a Unix socket, and the reports that cross it.
//!
//! Does not know what the answers mean: `agent` gives them.

pub mod client;
mod clients;
pub mod ddos;
pub mod devices;
pub mod events;
pub mod feature;
pub mod hand;
pub mod json;
pub mod metrics;
pub mod names;
pub mod page;
pub mod report;
pub mod scrape;
pub mod server;
pub mod signatures;
mod socket;
pub mod subject;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// Longest request, newline included.
pub const REQUEST_MAX: usize = 4096;
/// Longest reply.
pub const REPLY_MAX: usize = 4 << 20;

/// The socket in a run directory.
#[must_use]
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// What can be asked; one JSON object on a line, with the name of the request as member `method`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(remote = "Self", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// A [`report::Status`].
    Status {},
    /// A list of [`report::Flow`].
    Flows {},
    /// A list of [`signatures::Alert`](self::signatures::Alert), the last first.
    Alerts {},
    /// A list of [`events::Event`] as objects, the last first.
    Events {},
    /// An [`events::Page`].
    EventPage(events::filter::Question),
    /// A [`report::Why`] about a subject.
    Why {
        /// An address, a hardware address, a domain or a flow, as [`subject::Subject`] reads it.
        subject: String,
    },
    /// Reads the configuration again; a [`hand::Applied`], or the mistakes as an error.
    Reload {},
    /// Puts a file in the place of the configuration and into force; a [`hand::Applied`].
    Apply(hand::Apply),
    /// What was applied stays.
    Confirm {},
    /// What was before what was applied comes back; says what became of it.
    Rollback {},
    /// A [`page::FlowPage`].
    FlowPage(page::Part),
    /// A [`devices::DevicePage`].
    Devices(page::Part),
    /// Blocks an address or a prefix; a [`hand::Blocked`].
    Block {
        /// The address or prefix.
        subject: String,
        /// For how long; without it, or with 0, until it is lifted.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        seconds: Option<u32>,
    },
    /// Lifts a block that was made by hand or automatically; a [`hand::Unblocked`].
    Unblock {
        /// The address or prefix.
        subject: String,
    },
    /// Lets a domain, an address or a prefix pass that something blocks; a [`hand::Written`].
    Allow(hand::About),
    /// Blocks the flows of devices to a domain, an address or a prefix; a [`hand::Written`].
    Deny(hand::About),
    /// Blocks everything of a device; a [`hand::Written`].
    Pause(hand::Hold),
    /// Ends a pause; a [`hand::Written`].
    Resume {
        /// Hardware address or address.
        device: String,
    },
    /// Holds each direction of each flow of a device to a rate; a [`hand::Written`].
    Limit(hand::Hold),
    /// Calls a device something; a [`hand::Written`].
    Rename {
        /// Hardware address.
        device: String,
        /// The name; an empty one takes back what it was called.
        name: String,
    },
    /// Takes back what was decided by hand; a [`hand::Written`].
    Forget {
        /// The section.
        section: String,
    },
    /// Puts events away that have been dealt with; an [`events::Archived`].
    Archive(events::Which),
    /// Lets nobody be told of a type of events any more; a [`hand::Written`].
    Mute {
        /// The type.
        kind: String,
    },
    /// Has events of a type told again; a [`hand::Written`].
    Unmute {
        /// The type.
        kind: String,
    },
    /// A [`feature::Features`].
    Features {},
    /// Switches a feature on, with what it needs; a [`feature::Switched`].
    Enable {
        /// The feature.
        name: String,
    },
    /// Switches a feature off; a [`feature::Switched`].
    Disable {
        /// The feature.
        name: String,
        /// Whether what needs it goes with it; else that is refused.
        #[serde(default)]
        force: bool,
    },
}

// `tag = "method"` would do both, by reading everything into a value of its own and each request out of that.
impl<'de> Deserialize<'de> for Request {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::read(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl Serialize for Request {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl Request {
    /// The request that is written as `value`.
    pub fn read(mut value: Value) -> Result<Self, serde_json::Error> {
        match value.as_object_mut().and_then(|members| members.remove("method")) {
            Some(Value::String(method)) => {
                let variant = Map::from_iter([(method, value)]);
                Self::deserialize(json::Reader(&Value::Object(variant)))
            }
            _ => Err(serde::de::Error::missing_field("method")),
        }
    }

    /// How the request is written.
    fn written(&self) -> Result<Value, serde_json::Error> {
        let mut text = Vec::new();
        Self::serialize(self, &mut serde_json::Serializer::new(&mut text))?;
        let variant: Map<String, Value> = serde_json::from_slice(&text)?;
        let mut members = Value::Null;
        for (method, content) in variant {
            members = content;
            members["method"] = method.into();
        }
        Ok(members)
    }

    /// Whether the request changes something, so that only root may ask.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        match self {
            Self::Status {}
            | Self::Flows {}
            | Self::Alerts {}
            | Self::Events {}
            | Self::EventPage(_)
            | Self::Why { .. }
            | Self::FlowPage(_)
            | Self::Devices(_)
            | Self::Features {} => false,
            Self::Reload {}
            | Self::Apply(_)
            | Self::Confirm {}
            | Self::Rollback {}
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::Allow(_)
            | Self::Deny(_)
            | Self::Pause(_)
            | Self::Resume { .. }
            | Self::Limit(_)
            | Self::Rename { .. }
            | Self::Forget { .. }
            | Self::Archive(_)
            | Self::Mute { .. }
            | Self::Unmute { .. }
            | Self::Enable { .. }
            | Self::Disable { .. } => true,
        }
    }
}

/// A report as it crosses the socket: JSON on one line.
#[derive(Clone, Debug)]
pub struct Answer(String);

impl Answer {
    /// The text of a report.
    pub fn new(report: &impl Serialize) -> Result<Self, String> {
        serde_json::to_string(report).map(Self).map_err(|error| error.to_string())
    }

    /// As [`Reply::Ok`].
    fn reply(&self) -> String {
        ["{\"ok\":", &self.0, "}"].concat()
    }

    /// The report as a value.
    pub fn value(&self) -> Result<Value, String> {
        serde_json::from_str(&self.0).map_err(|error| error.to_string())
    }
}

/// One JSON object on a line.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The answer.
    Ok(Value),
    /// Why there is none; made for people.
    Error(String),
    /// Who asked may not.
    Denied(String),
}
