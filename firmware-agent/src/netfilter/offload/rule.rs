//! A rule as the kernel has it: recognised when it hands flows to a flowtable, put under the trusted
//! bit, and freed of it again. Pure.
//!
//! A rule is a list of expressions, kept here as the bytes that the kernel wrote. The guard is three
//! more of them (load the ct mark, mask it, compare it) right before the one that hands over; all
//! others stay byte for byte what they were, whatever they mean.

use super::wire;
use crate::config::MarkMask;
use crate::sys::netlink::{Attr, Attrs, Builder, Message, Messages};

/// What a guarded rule says in its comment, behind a comment of its own if it has one.
pub const MARKER: &str = "guarded by sluice";
/// Between a rule's own comment and the marker.
const GAP: &str = "; ";
/// `NFTNL_UDATA_RULE_COMMENT`: kind of a part of the user data.
const COMMENT: u8 = 0;
/// The longest comment that `nft` reads.
const COMMENT_MAX: usize = 127;

const FLOW_OFFLOAD: &str = "flow_offload";
const FLOWTABLE_NAME: u16 = 1;
const LOOKUP: &str = "lookup";
const LOOKUP_SET: u16 = 1;
const LOOKUP_SET_ID: u16 = 4;
/// `NFT_REG_1`: nothing that stands behind `flow add` reads it.
const REGISTER: u32 = 1;
const CT_MARK: u32 = 3;

/// One expression.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Expr {
    name: Box<str>,
    /// The attributes of `NFTA_EXPR_DATA`; not every expression has any.
    data: Option<Vec<u8>>,
}

impl Expr {
    fn attr(&self, kind: u16) -> Option<Attr<'_>> {
        Attrs::new(self.data.as_deref()?).find(|attr| attr.kind == kind)
    }

    /// An expression whose data `write` writes.
    fn new(name: &str, write: impl FnOnce(&mut Builder)) -> Self {
        Self { name: name.into(), data: Some(attributes(write)) }
    }
}

/// A rule of a chain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// The kernel's number of it, unique in its table.
    pub handle: u64,
    exprs: Vec<Expr>,
    /// Parts of one byte kind, one byte length, value.
    userdata: Vec<u8>,
}

/// How a rule hands flows over.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Handing {
    /// It does not.
    None,
    /// Any flow that it matches.
    Open,
    /// Those whose ct mark has this value under this mask, and Sluice made it so.
    Guarded {
        /// Bits that are compared.
        mask: u32,
        /// What they must be.
        value: u32,
    },
}

impl Rule {
    /// Reads a rule from the kernel's answer.
    pub(super) fn read(message: &Message<'_>) -> Option<Self> {
        if message.kind != wire::message::NEW_RULE {
            return None;
        }
        let mut rule = Self { handle: 0, exprs: Vec::new(), userdata: Vec::new() };
        for attr in message.attrs(wire::FAMILY_HEADER) {
            match attr.kind {
                wire::RULE_HANDLE => {
                    rule.handle = u64::from_be_bytes(attr.value.try_into().ok()?);
                }
                wire::RULE_EXPRESSIONS => {
                    for element in attr.nested() {
                        let part = |kind| element.nested().find(|part| part.kind == kind);
                        rule.exprs.push(Expr {
                            name: part(wire::EXPR_NAME)?.text(),
                            data: part(wire::EXPR_DATA).map(|data| data.value.to_vec()),
                        });
                    }
                }
                wire::RULE_USERDATA => rule.userdata = attr.value.to_vec(),
                _ => {}
            }
        }
        (rule.handle != 0).then_some(rule)
    }

    /// Writes the attributes that a new rule is made of. `sets` gives for the name of a set the
    /// number of its copy in the same transaction.
    pub(super) fn write(&self, builder: &mut Builder, sets: impl Fn(&str) -> Option<u32>) {
        builder.nested(wire::RULE_EXPRESSIONS, |builder| {
            for expr in &self.exprs {
                builder.nested(wire::LIST_ELEMENT, |builder| {
                    wire::text(builder, wire::EXPR_NAME, &expr.name);
                    let Some(data) = &expr.data else { return };
                    let copy = expr
                        .attr(LOOKUP_SET)
                        .filter(|_| &*expr.name == LOOKUP)
                        .and_then(|set| sets(&set.text()));
                    builder.nested(wire::EXPR_DATA, |builder| match copy {
                        None => wire::copy(builder, data, |_| true),
                        Some(id) => {
                            let is_kept = |kind| ![LOOKUP_SET, LOOKUP_SET_ID].contains(&kind);
                            wire::copy(builder, data, is_kept);
                            wire::text(builder, LOOKUP_SET, wire::NEW_NAME);
                            builder.attr(LOOKUP_SET_ID, &id.to_be_bytes());
                        }
                    });
                });
            }
        });
        if !self.userdata.is_empty() {
            builder.attr(wire::RULE_USERDATA, &self.userdata);
        }
    }

    /// A rule with this one's number and comment, and the expressions of `other`.
    #[cfg(test)]
    pub(super) fn with_expressions_of(&self, other: &Self) -> Self {
        Self { exprs: other.exprs.clone(), ..self.clone() }
    }

    /// The rule with the expressions of `other` behind its own.
    #[cfg(test)]
    pub(super) fn followed_by(&self, other: &Self) -> Self {
        let exprs = self.exprs.iter().chain(&other.exprs).cloned().collect();
        Self { exprs, ..self.clone() }
    }

    fn position(&self) -> Option<usize> {
        self.exprs.iter().position(|expr| &*expr.name == FLOW_OFFLOAD)
    }

    /// The flowtable that the rule hands flows to.
    #[must_use]
    pub fn flowtable(&self) -> Option<Box<str>> {
        Some(self.exprs.get(self.position()?)?.attr(FLOWTABLE_NAME)?.text())
    }

    /// Sets that the rule looks something up in.
    pub(super) fn sets(&self) -> Vec<Box<str>> {
        let lookups = self.exprs.iter().filter(|expr| &*expr.name == LOOKUP);
        lookups.filter_map(|expr| Some(expr.attr(LOOKUP_SET)?.text())).collect()
    }

    /// How the rule hands flows over.
    #[must_use]
    pub fn handing(&self) -> Handing {
        let Some(position) = self.position() else { return Handing::None };
        if !self.comment().is_some_and(|comment| comment.ends_with(MARKER)) {
            return Handing::Open;
        }
        match self.guard(position) {
            Some((mask, value)) => Handing::Guarded { mask, value },
            None => Handing::Open,
        }
    }

    /// What forbids to guard this rule. A verdict behind `flow add` would no longer be given to the
    /// flows that the guard holds back, which changes what the firewall lets through.
    #[must_use]
    pub fn obstacle(&self) -> Option<String> {
        let behind = self.exprs.get(self.position()? + 1..)?;
        let harmless = ["counter", "last", "log"];
        let foreign = behind.iter().find(|expr| !harmless.contains(&&*expr.name))?;
        Some(format!(
            "the rule with handle {} goes on behind `flow add` ({})",
            self.handle, foreign.name
        ))
    }

    /// The same rule for trusted connections only.
    #[must_use]
    pub fn guarded(&self, marks: MarkMask) -> Self {
        let mut rule = self.plain();
        let Some(position) = rule.position() else { return rule };
        rule.exprs.splice(position..position, guard(marks.bits(), marks.trusted()));
        let own = rule.comment();
        let own = own.map(|own| own + GAP).unwrap_or_default();
        if own.len() + MARKER.len() <= COMMENT_MAX {
            rule.set_comment(Some(&(own + MARKER)));
        } else {
            // Without the marker nobody would know whose guard it is.
            rule.set_comment(Some(MARKER));
        }
        rule
    }

    /// The rule as it was before it was guarded.
    #[must_use]
    pub fn plain(&self) -> Self {
        let mut rule = self.clone();
        let (Handing::Guarded { .. }, Some(position)) = (self.handing(), self.position()) else {
            return rule;
        };
        rule.exprs.drain(position - GUARD_LEN..position);
        let comment = self.comment().unwrap_or_default();
        let own = comment.strip_suffix(MARKER).and_then(|own| own.strip_suffix(GAP));
        rule.set_comment(own);
        rule
    }

    /// The guard right before the expression at `position`.
    fn guard(&self, position: usize) -> Option<(u32, u32)> {
        let found = self.exprs.get(position.checked_sub(GUARD_LEN)?..position)?;
        let [_, bitwise, compare] = found else { return None };
        let word = |expr: &Expr, kind| {
            let data = expr.attr(kind)?;
            let value = data.nested().find(|attr| attr.kind == wire::DATA_VALUE)?;
            Some(u32::from_ne_bytes(value.value.try_into().ok()?))
        };
        let (mask, value) = (word(bitwise, BITWISE_MASK)?, word(compare, COMPARE_DATA)?);
        // The kernel may write more attributes than it was given, never fewer or others.
        let says = |expr: &Expr, wanted: &Expr| {
            expr.name == wanted.name
                && Attrs::new(wanted.data.as_deref().unwrap_or_default()).all(|wanted| {
                    expr.attr(wanted.kind).is_some_and(|attr| attr.value == wanted.value)
                })
        };
        let wanted = guard(mask, value);
        found.iter().zip(&wanted).all(|(expr, wanted)| says(expr, wanted)).then_some((mask, value))
    }

    /// The rule's comment.
    #[must_use]
    pub fn comment(&self) -> Option<String> {
        let (_, value) = parts(&self.userdata).find(|(kind, _)| *kind == COMMENT)?;
        let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
        Some(String::from_utf8_lossy(value.get(..end)?).into_owned())
    }

    fn set_comment(&mut self, comment: Option<&str>) {
        let mut userdata = Vec::new();
        if let Some(comment) = comment {
            userdata.extend([COMMENT, comment.len() as u8 + 1]);
            userdata.extend_from_slice(comment.as_bytes());
            userdata.push(0);
        }
        for (kind, value) in parts(&self.userdata).filter(|(kind, _)| *kind != COMMENT) {
            userdata.extend([kind, value.len() as u8]);
            userdata.extend_from_slice(value);
        }
        self.userdata = userdata;
    }
}

/// Expressions of a guard.
const GUARD_LEN: usize = 3;
const BITWISE_MASK: u16 = 4;
const COMPARE_DATA: u16 = 3;

/// `ct mark & mask == value`.
fn guard(mask: u32, value: u32) -> [Expr; GUARD_LEN] {
    let number = |builder: &mut Builder, kind, value: u32| builder.attr(kind, &value.to_be_bytes());
    // Marks are compared in the byte order of the machine.
    let data = |builder: &mut Builder, kind, value: u32| {
        builder.nested(kind, |builder| builder.attr(wire::DATA_VALUE, &value.to_ne_bytes()));
    };
    [
        Expr::new("ct", |builder| {
            number(builder, 1, REGISTER);
            number(builder, 2, CT_MARK);
        }),
        Expr::new("bitwise", |builder| {
            number(builder, 1, REGISTER);
            number(builder, 2, REGISTER);
            number(builder, 3, size_of::<u32>() as u32);
            data(builder, BITWISE_MASK, mask);
            data(builder, 5, 0);
        }),
        Expr::new("cmp", |builder| {
            number(builder, 1, REGISTER);
            number(builder, 2, 0);
            data(builder, COMPARE_DATA, value);
        }),
    ]
}

/// The parts of a rule's user data.
fn parts(mut userdata: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[kind, len], rest) = userdata.split_first_chunk()?;
        let (value, rest) = rest.split_at_checked(len.into())?;
        userdata = rest;
        Some((kind, value))
    })
}

/// The bytes of the attributes that `write` writes.
fn attributes(write: impl FnOnce(&mut Builder)) -> Vec<u8> {
    let mut builder = Builder::default();
    builder.message(0, 0, 0, &[]);
    write(&mut builder);
    Messages::new(builder.bytes()).next().map(|message| message.body.to_vec()).unwrap_or_default()
}
