//! Puts programs on devices: the ladder, the links, the way back.
//!
//! A link of ours is taken up by putting the new program behind it, so a restart leaves no moment
//! without protection. Programs of others are never replaced or moved.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};

use super::error::Error;
use super::hardware;
use super::links::Links;
use super::pins::{Mark, Pins};
use super::plan::{TcWish, XdpWish};
use super::topology::Facts;
use crate::kernel::Support;
use crate::kernel::choose::{TcRung, XdpRung, choose_tc, choose_xdp};
use crate::sys::bpf::{self, Hook};
use crate::sys::netlink::RequestError;
use crate::sys::rtnetlink::{self, Device, Side};

/// Priority and handle of our `cls_bpf` filters; with the name they are how we know them again.
const FILTER: (u16, u32) = (49, 0x51);

/// The programs of the object `tc_flow`.
#[derive(Clone, Copy, Debug)]
pub(super) struct TcPrograms<'a> {
    pub(super) ingress: BorrowedFd<'a>,
    pub(super) egress: BorrowedFd<'a>,
    /// Whether the second one has anything to do.
    pub(super) is_egress_needed: bool,
}

/// A side of a device as tcx and clsact have it.
#[derive(Clone, Copy)]
struct Place {
    hook: Hook,
    link: Mark,
    filter: Mark,
    side: Side,
}

const INGRESS: Place = Place {
    hook: Hook::TcxIngress,
    link: Mark::TcxIn,
    filter: Mark::FilterIn,
    side: Side::Ingress,
};
const EGRESS: Place = Place {
    hook: Hook::TcxEgress,
    link: Mark::TcxOut,
    filter: Mark::FilterOut,
    side: Side::Egress,
};

impl<'a> TcPrograms<'a> {
    /// Each side with its program, if that has anything to do.
    fn sides(self) -> [(Place, Option<BorrowedFd<'a>>); 2] {
        [(INGRESS, Some(self.ingress)), (EGRESS, self.is_egress_needed.then_some(self.egress))]
    }
}

/// Attaches the shield to a device. The reasons say what was missing for better places.
pub(super) fn attach_xdp(
    prog: BorrowedFd<'_>,
    device: &Device,
    links: &mut Links,
    wish: XdpWish,
) -> Result<(XdpRung, Vec<String>), Error> {
    let ifindex = device.ifindex;
    match take_up_xdp(prog, device, links, wish)? {
        // The new program protects already. The driver may take it by now (another MTU, another
        // version), but only when nothing is on the generic hook: for an instant there is neither.
        Some(XdpRung::Generic) if wish == XdpWish::Auto => {
            links.release(Mark::Xdp, ifindex)?;
        }
        Some(rung) => return Ok((rung, Vec::new())),
        None => {}
    }
    // Read again: what is on the device now is not ours.
    let now = rtnetlink::devices()
        .ok()
        .and_then(|devices| devices.into_iter().find(|found| found.ifindex == ifindex));
    if let Some(id) = now.and_then(|device| foreign_xdp(&device)) {
        return Ok((XdpRung::None, vec![foreign_reason(device, id)]));
    }
    let links = RefCell::new(links);
    let attach = |hook| -> Support {
        match create(prog, ifindex, hook, &mut links.borrow_mut(), Mark::Xdp) {
            Ok(()) => Support::Yes,
            Err(error) => Support::No(xdp_reason(&error, &device.name)),
        }
    };
    Ok(choose_xdp(
        || match wish {
            XdpWish::Auto | XdpWish::Hardware | XdpWish::Native => attach(Hook::XdpNative),
            XdpWish::Generic | XdpWish::Tc | XdpWish::Nft | XdpWish::Off => {
                Support::No("not wanted".to_owned())
            }
        },
        || match wish {
            XdpWish::Auto | XdpWish::Hardware | XdpWish::Generic => attach(Hook::XdpGeneric),
            XdpWish::Native | XdpWish::Tc | XdpWish::Nft | XdpWish::Off => {
                Support::No("not wanted".to_owned())
            }
        },
    ))
}

/// Attaches the classifiers to the sides of a device that need one. What an earlier run used, and what
/// got no further than one side, is not taken away here: see [`detach_others`].
pub(super) fn attach_tc(
    programs: TcPrograms<'_>,
    device: &Device,
    links: &mut Links,
    wish: TcWish,
) -> (TcRung, Vec<String>) {
    let ifindex = device.ifindex;
    let pins = links.pins().clone();
    choose_tc(
        || match wish {
            TcWish::Auto => tcx(programs, ifindex, links).into(),
            TcWish::Clsact | TcWish::Off => Support::No("not wanted".to_owned()),
        },
        || match wish {
            TcWish::Auto | TcWish::Clsact => match clsact(programs, ifindex, &pins) {
                Ok(()) => Support::Yes,
                Err(reason) => Support::No(reason),
            },
            TcWish::Off => Support::No("not wanted".to_owned()),
        },
    )
}

/// Removes every attachment of ours from devices that `keeps` does not name.
pub(super) fn detach_others(
    links: &mut Links,
    facts: &Facts,
    keeps: impl Fn(Mark, u32) -> bool,
) -> Result<(), Error> {
    // A qdisc goes after its filters.
    let mut marks = links.marks()?;
    marks.sort_unstable();
    for (mark, ifindex) in marks {
        if keeps(mark, ifindex) {
            continue;
        }
        match mark {
            Mark::Xdp | Mark::TcxIn | Mark::TcxOut => links.release(mark, ifindex)?,
            Mark::FilterIn => detach_filter(INGRESS, ifindex, links.pins())?,
            Mark::FilterOut => detach_filter(EGRESS, ifindex, links.pins())?,
            Mark::Qdisc => detach_clsact(ifindex, links.pins())?,
            Mark::Device => {
                if let Some(device) = facts.device(ifindex) {
                    hardware::detach(device)?;
                }
                links.pins().remove(mark, ifindex)?;
            }
        }
    }
    Ok(())
}

/// Whether what was attached to a device is still there.
pub(super) fn is_attached(links: &Links, facts: &Facts, mark: Mark, ifindex: u32) -> bool {
    match mark {
        Mark::Xdp | Mark::TcxIn | Mark::TcxOut => links
            .get(mark, ifindex)
            .and_then(|link| bpf::link_info(link.as_fd()))
            .is_ok_and(|info| info.ifindex == ifindex),
        Mark::FilterIn => matches!(own_filter(ifindex, Side::Ingress), Ok(Some(_))),
        Mark::FilterOut => matches!(own_filter(ifindex, Side::Egress), Ok(Some(_))),
        Mark::Qdisc => links.pins().link(mark, ifindex).exists(),
        Mark::Device => facts.device(ifindex).is_some_and(hardware::is_attached),
    }
}

/// Puts the program behind the link that is there, if it is of any use.
fn take_up_xdp(
    prog: BorrowedFd<'_>,
    device: &Device,
    links: &mut Links,
    wish: XdpWish,
) -> Result<Option<XdpRung>, Error> {
    let link = match links.get(Mark::Xdp, device.ifindex) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) => {
            links.release(Mark::Xdp, device.ifindex)?;
            return Ok(None);
        }
    };
    let rung = bpf::link_info(link.as_fd()).ok().and_then(|info| {
        // The same number in another namespace is another device: there our program does not run.
        if info.ifindex != device.ifindex {
            None
        } else if device.xdp.native == info.prog_id {
            Some(XdpRung::Native)
        } else if device.xdp.generic == info.prog_id {
            Some(XdpRung::Generic)
        } else {
            None
        }
    });
    let wanted = match wish {
        XdpWish::Auto | XdpWish::Hardware => rung.is_some(),
        XdpWish::Native => rung == Some(XdpRung::Native),
        XdpWish::Generic => rung == Some(XdpRung::Generic),
        XdpWish::Tc | XdpWish::Nft | XdpWish::Off => false,
    };
    if wanted && bpf::link_update(link.as_fd(), prog).is_ok() {
        let path = links.pins().link(Mark::Xdp, device.ifindex);
        let failed = |source| Error::Pin { path, operation: "replace", source };
        links.keep(Mark::Xdp, device.ifindex, link).map_err(failed)?;
        return Ok(rung);
    }
    drop(link);
    links.release(Mark::Xdp, device.ifindex)?;
    Ok(None)
}

/// A program in the driver or behind it; what is in the card is looked at there.
fn foreign_xdp(device: &Device) -> Option<u32> {
    let xdp = device.xdp;
    [xdp.native, xdp.generic].into_iter().find(|id| *id != 0)
}

fn foreign_reason(device: &Device, id: u32) -> String {
    let name = bpf::prog_by_id(id)
        .and_then(|prog| bpf::prog_info(prog.as_fd()))
        .map_or_else(|_| "of unknown name".to_owned(), |info| format!("'{}'", info.name));
    format!(
        "{} has the XDP program {name} (id {id}) of somebody else, which is not replaced; remove \
         it, or set option xdp to off for this interface",
        device.name
    )
}

fn xdp_reason(error: &io::Error, device: &str) -> String {
    match error.raw_os_error() {
        Some(libc::EOPNOTSUPP) => format!("the driver of {device} has no XDP"),
        Some(libc::ERANGE) => format!("the MTU of {device} is too large for XDP in its driver"),
        _ => error.to_string(),
    }
}

/// Attaches; what cannot be kept goes with the descriptor.
fn create(
    prog: BorrowedFd<'_>,
    ifindex: u32,
    hook: Hook,
    links: &mut Links,
    mark: Mark,
) -> io::Result<()> {
    let link = bpf::link_create(prog, ifindex, hook)?;
    links.keep(mark, ifindex, link)
}

fn tcx(programs: TcPrograms<'_>, ifindex: u32, links: &mut Links) -> io::Result<()> {
    for (Place { hook, link, .. }, prog) in programs.sides() {
        let Some(prog) = prog else { continue };
        if !take_up_tcx(prog, ifindex, hook, links, link)? {
            create(prog, ifindex, hook, links, link)?;
        }
    }
    Ok(())
}

fn take_up_tcx(
    prog: BorrowedFd<'_>,
    ifindex: u32,
    hook: Hook,
    links: &mut Links,
    mark: Mark,
) -> io::Result<bool> {
    let link = match links.get(mark, ifindex) {
        Ok(link) => link,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let info = bpf::link_info(link.as_fd())?;
    let here = info.ifindex == ifindex
        && bpf::tcx_programs(ifindex, hook).is_ok_and(|ids| ids.contains(&info.prog_id));
    if here && bpf::link_update(link.as_fd(), prog).is_ok() {
        links.keep(mark, ifindex, link)?;
        return Ok(true);
    }
    drop(link);
    links.release(mark, ifindex).map_err(io::Error::other)?;
    Ok(false)
}

fn clsact(programs: TcPrograms<'_>, ifindex: u32, pins: &Pins) -> Result<(), String> {
    let failed = |what: &str, error: RequestError| format!("{what}: {error}");
    let added = rtnetlink::add_clsact(ifindex).map_err(|error| failed("add qdisc", error))?;
    if added {
        pins.remind(Mark::Qdisc, ifindex).map_err(|error| error.chain())?;
    }
    for (Place { filter, side, .. }, prog) in programs.sides() {
        let Some(prog) = prog else { continue };
        pins.remind(filter, ifindex).map_err(|error| error.chain())?;
        let replace = own_filter(ifindex, side)?.is_some();
        rtnetlink::add_filter(ifindex, side, FILTER, filter_name(side), prog, replace)
            .map_err(|error| failed("add filter", error))?;
    }
    Ok(())
}

const fn filter_name(side: Side) -> &'static str {
    match side {
        Side::Ingress => "sluice_in",
        Side::Egress => "sluice_out",
    }
}

/// Our filter on one side; an error when our place belongs to somebody else.
fn own_filter(ifindex: u32, side: Side) -> Result<Option<rtnetlink::Filter>, String> {
    let filters =
        rtnetlink::filters(ifindex, side).map_err(|error| format!("list filters: {error}"))?;
    let (priority, handle) = FILTER;
    match filters.into_iter().find(|f| f.priority == priority && f.handle == handle) {
        None => Ok(None),
        Some(filter) if filter.name == filter_name(side) => Ok(Some(filter)),
        Some(filter) => Err(format!(
            "priority {priority} handle {handle:#x} belongs to the filter '{}'",
            filter.name
        )),
    }
}

fn failed_on(ifindex: u32, operation: &'static str) -> impl FnOnce(RequestError) -> Error {
    move |source| Error::Device { ifindex, operation, source: Box::new(source) }
}

fn detach_filter(place: Place, ifindex: u32, pins: &Pins) -> Result<(), Error> {
    // A device that is gone has no filters; a filter of another name is not ours.
    if let Ok(Some(_)) = own_filter(ifindex, place.side) {
        unless_gone(rtnetlink::remove_filter(ifindex, place.side, FILTER))
            .map_err(failed_on(ifindex, "remove a filter of"))?;
    }
    pins.remove(place.filter, ifindex)
}

/// Removes the qdisc unless somebody uses it.
fn detach_clsact(ifindex: u32, pins: &Pins) -> Result<(), Error> {
    let unused = [Side::Ingress, Side::Egress]
        .into_iter()
        .all(|side| rtnetlink::filters(ifindex, side).is_ok_and(|filters| filters.is_empty()));
    if unused {
        unless_gone(rtnetlink::remove_clsact(ifindex))
            .map_err(failed_on(ifindex, "remove the qdisc of"))?;
    }
    pins.remove(Mark::Qdisc, ifindex)
}

/// What was on a device goes with it.
fn unless_gone(result: Result<(), RequestError>) -> Result<(), RequestError> {
    match result {
        Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::ENOENT)) => Ok(()),
        other => other,
    }
}
