//! A packet socket that sees the DNS messages of one device.
//!
//! Its filter only selects what is copied to it: it never drops a packet, changes one or holds one up.

use std::io;
use std::mem::{size_of, size_of_val};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use libc::{c_int, sock_filter, sockaddr_ll, socklen_t};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

/// Bytes of a packet that are copied.
pub const COPY_MAX: usize = 4096;
/// Room for packets that were not looked at yet; what finds none is counted.
const BUFFER: usize = 256 << 10;
/// Hardware type of Ethernet, whose addresses are hardware addresses.
const ETHERNET: u16 = 1;

/// A socket of the calling thread's network namespace.
#[derive(Debug)]
pub struct DnsSocket(OwnedFd);

/// A packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Seen<'a> {
    /// From its IP header on, [`COPY_MAX`] bytes at most.
    pub l3: &'a [u8],
    /// Its length on the wire, from its IP header on.
    pub wire_len: usize,
    /// Whether it leaves by the device; else it came in by it, for this machine.
    pub is_outgoing: bool,
    /// Hardware address of the sender of one that came in.
    pub mac: Option<[u8; 6]>,
}

impl DnsSocket {
    /// A socket that sees packets of the device with this index from now on.
    pub fn open(ifindex: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it sees nothing before its filter is there.
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::RcvBuf, &BUFFER)?;
        let mut filter = filter();
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        option(&fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)?;
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let address = sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the address is a whole `sockaddr_ll` that lives through the call.
        let done = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast(),
                size_of_val(&address) as socklen_t,
            )
        };
        Errno::result(done)?;
        Ok(Self(fd))
    }

    /// The next packet that is there; `None` when there is none. `buffer` has [`COPY_MAX`] bytes.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Seen<'a>>> {
        // SAFETY: all zeros are a valid `sockaddr_ll`.
        let mut from: sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut from_len = size_of::<sockaddr_ll>() as socklen_t;
        let len = loop {
            // SAFETY: buffer and address are writable for the lengths that are given, and live
            // through the call.
            let len = unsafe {
                libc::recvfrom(
                    self.0.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            match Errno::result(len) {
                Ok(len) => break len.unsigned_abs(),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let is_outgoing = from.sll_pkttype == libc::PACKET_OUTGOING;
        let is_ethernet = from.sll_hatype == ETHERNET && from.sll_halen == 6;
        let copied = len.min(buffer.len());
        Ok(Some(Seen {
            l3: buffer.get(..copied).unwrap_or_default(),
            wire_len: len,
            is_outgoing,
            mac: from.sll_addr.first_chunk().copied().filter(|_| is_ethernet && !is_outgoing),
        }))
    }

    /// Packets that found no room since this was asked last.
    #[must_use]
    pub fn lost(&self) -> u32 {
        let mut stats = [0_u32; 2];
        let mut len = size_of_val(&stats) as socklen_t;
        // SAFETY: `struct tpacket_stats` is two words, of which the kernel writes at most `len` bytes.
        let done = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                stats.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if done == 0 { stats[1] } else { 0 }
    }
}

impl AsFd for DnsSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn option<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is readable for its size, and what it points to lives as long as the caller's
    // borrow of it.
    let done = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const *value).cast(),
            size_of::<T>() as socklen_t,
        )
    };
    Ok(Errno::result(done).map(drop)?)
}

/// Selects whole packets and first fragments of TCP and UDP, from or to port 53, for this machine or
/// from it, of no VLAN. IPv6 extension headers are not followed.
fn filter() -> Vec<sock_filter> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const LOAD_HALF: u16 = 0x28;
    const LOAD_BYTE: u16 = 0x30;
    const LOAD_HALF_X: u16 = 0x48; // BPF_LD | BPF_H | BPF_IND
    const HEADER_LEN: u16 = 0xb1; // BPF_LDX | BPF_B | BPF_MSH
    const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
    const RETURN: u16 = 0x06;
    const AD: u32 = libc::SKF_AD_OFF.cast_unsigned();
    const VLAN: u32 = AD + libc::SKF_AD_VLAN_TAG_PRESENT.cast_unsigned();
    const TYPE: u32 = AD + libc::SKF_AD_PKTTYPE.cast_unsigned();
    const PROTOCOL: u32 = AD + libc::SKF_AD_PROTOCOL.cast_unsigned();
    const V4: u32 = libc::ETH_P_IP.cast_unsigned();
    const V6: u32 = libc::ETH_P_IPV6.cast_unsigned();
    /// Steps that end it.
    const LEAVE: u8 = 25;
    const TAKE: u8 = 26;
    // Each with its operand and, of jumps, the steps where yes and no go on.
    #[rustfmt::skip]
    let steps: [(u16, u32, u8, u8); 27] = [
        (LOAD_WORD, VLAN, 0, 0),
        (EQUAL, 0, 2, LEAVE),
        (LOAD_WORD, TYPE, 0, 0),
        (EQUAL, 0, 5, 4),
        (EQUAL, u32::from(libc::PACKET_OUTGOING), 5, LEAVE),
        (LOAD_WORD, PROTOCOL, 0, 0),
        (EQUAL, V6, 18, 7),
        (EQUAL, V4, 8, LEAVE),
        (LOAD_BYTE, 9, 0, 0),
        (EQUAL, 17, 11, 10),
        (EQUAL, 6, 11, LEAVE),
        (LOAD_HALF, 6, 0, 0),
        (ANY_BIT, 0x1fff, LEAVE, 13),
        (HEADER_LEN, 0, 0, 0),
        (LOAD_HALF_X, 0, 0, 0),
        (EQUAL, 53, TAKE, 16),
        (LOAD_HALF_X, 2, 0, 0),
        (EQUAL, 53, TAKE, LEAVE),
        (LOAD_BYTE, 6, 0, 0),
        (EQUAL, 17, 21, 20),
        (EQUAL, 6, 21, LEAVE),
        (LOAD_HALF, 40, 0, 0),
        (EQUAL, 53, TAKE, 23),
        (LOAD_HALF, 42, 0, 0),
        (EQUAL, 53, TAKE, LEAVE),
        (RETURN, 0, 0, 0),
        (RETURN, u32::MAX, 0, 0),
    ];
    (1..)
        .zip(steps)
        .map(|(next, (code, k, yes, no))| match code {
            EQUAL | ANY_BIT => sock_filter { code, jt: yes - next, jf: no - next, k },
            _ => sock_filter { code, jt: 0, jf: 0, k },
        })
        .collect()
}
