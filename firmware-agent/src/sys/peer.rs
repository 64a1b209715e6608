//! Who is at the other end of a Unix socket, as the kernel noted it when they connected.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::sys::socket::{getsockopt, sockopt};

/// Groups of a peer that are looked at. With more, none of the supplementary ones counts.
const GROUPS_MAX: usize = 256;

/// A process at the time when it connected; what it became since then does not matter.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups; none where the kernel does not tell.
    pub groups: Vec<u32>,
}

impl Peer {
    /// The peer of a connected socket.
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let peer = getsockopt(socket, sockopt::PeerCredentials)?;
        // Fewer groups mean fewer rights.
        let groups = groups(socket).unwrap_or_default();
        Ok(Self { uid: peer.uid(), gid: peer.gid(), groups })
    }
}

/// The supplementary groups. The kernel keeps them with the socket, unlike `/proc/PID/status`, which
/// by now may be about another process.
fn groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = [0_u32; GROUPS_MAX];
    let mut len = size_of_val(&groups) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `groups`, which lives through the
    // call and for which any bytes are valid.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    let count = (len as usize / size_of::<u32>()).min(GROUPS_MAX);
    Ok(groups[..count].to_vec())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use nix::unistd::{getegid, geteuid, getgroups};

    use super::*;

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (socket, _other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&socket).unwrap();
        assert_eq!((peer.uid, peer.gid), (geteuid().as_raw(), getegid().as_raw()));
        if cfg!(target_arch = "mips") {
            return; // qemu-user does not know the option
        }
        let own: Vec<_> = getgroups().unwrap().iter().map(|group| group.as_raw()).collect();
        assert_eq!(peer.groups, own);
    }
}
