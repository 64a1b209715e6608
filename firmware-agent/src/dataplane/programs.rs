//! The programs in the kernel, one copy per kind of attachment.

use std::os::fd::{AsFd as _, OwnedFd};

use aya::programs::{SchedClassifier, Xdp};
use sluice_abi::attach::Attachment;
use sluice_abi::names;

use super::error::Error;
use super::object::{Loader, Objects, TC_FLOW, XDP_SHIELD, interpreted, program};
use super::pins::Pins;

/// Programs of one round of attaching, each loaded once per kind of attachment.
#[derive(Default)]
pub(super) struct Programs {
    shields: Vec<(Attachment, OwnedFd)>,
    fast_paths: Vec<(Attachment, (OwnedFd, OwnedFd))>,
}

impl Programs {
    pub(super) fn shield(
        &mut self,
        loader: &mut Loader,
        pins: &Pins,
        objects: Objects,
        attachment: Attachment,
    ) -> Result<&OwnedFd, Error> {
        let known = self.shields.iter().position(|(of, _)| *of == attachment);
        let index = known.unwrap_or(self.shields.len());
        if known.is_none() {
            let prog = load_shield(loader, pins, objects, attachment)?;
            self.shields.push((attachment, prog));
        }
        Ok(&self.shields[index].1)
    }

    pub(super) fn fast_path(
        &mut self,
        loader: &mut Loader,
        pins: &Pins,
        objects: Objects,
        attachment: Attachment,
    ) -> Result<&(OwnedFd, OwnedFd), Error> {
        let known = self.fast_paths.iter().position(|(of, _)| *of == attachment);
        let index = known.unwrap_or(self.fast_paths.len());
        if known.is_none() {
            let progs = load_fast_path(loader, pins, objects, attachment)?;
            self.fast_paths.push((attachment, progs));
        }
        Ok(&self.fast_paths[index].1)
    }

    /// Reasons to expect slow programs.
    pub(super) fn interpreted(&self, attachment: Attachment, shield: bool) -> Vec<String> {
        let shields = self.shields.iter().filter(|(of, _)| shield && *of == attachment);
        let fast_paths = self.fast_paths.iter().filter(|(of, _)| !shield && *of == attachment);
        let fast_paths = fast_paths.flat_map(|(_, (ingress, egress))| {
            [(names::TC_FLOW_IN, ingress), (names::TC_FLOW_OUT, egress)]
        });
        shields
            .map(|(_, prog)| (names::XDP_SHIELD, prog))
            .chain(fast_paths)
            .filter_map(|(name, prog)| interpreted(name, prog.as_fd()))
            .collect()
    }
}

/// Loads a copy of the shield.
pub(super) fn load_shield(
    loader: &mut Loader,
    pins: &Pins,
    objects: Objects,
    attachment: Attachment,
) -> Result<OwnedFd, Error> {
    loop {
        let mut ebpf = loader.load(XDP_SHIELD, objects.xdp_shield, pins, attachment)?;
        match program::<Xdp>(&mut ebpf, XDP_SHIELD, names::XDP_SHIELD) {
            // Better a shield without them than none.
            Err(error @ Error::Program { .. }) if loader.without_cookies(&error) => {}
            result => return result,
        }
    }
}

fn load_fast_path(
    loader: &mut Loader,
    pins: &Pins,
    objects: Objects,
    attachment: Attachment,
) -> Result<(OwnedFd, OwnedFd), Error> {
    let mut ebpf = loader.load(TC_FLOW, objects.tc_flow, pins, attachment)?;
    Ok((
        program::<SchedClassifier>(&mut ebpf, TC_FLOW, names::TC_FLOW_IN)?,
        program::<SchedClassifier>(&mut ebpf, TC_FLOW, names::TC_FLOW_OUT)?,
    ))
}
