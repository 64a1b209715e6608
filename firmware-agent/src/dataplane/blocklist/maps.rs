//! The three maps behind one trait, and how many entries get into them at once.

use std::os::fd::{AsFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, IterableMap, MapData, MapError};
use sluice_abi::flow::Addr;
use sluice_abi::names;
use sluice_abi::shield::{AllowEntry, BlockEntry};

use crate::config::Net;
use crate::dataplane::error::Error;
use crate::sys::bpf;

/// Prefixes with what the map has for them.
pub(super) type Entries<V> = Vec<(Net, V)>;

/// Entries that go into one system call.
const BATCH: usize = 1024;
/// A kernel without interrupt work (MIPS) refills the allocator of such maps at the next tick.
const REFILL: Duration = Duration::from_millis(2);
/// Ticks to wait without progress before memory counts as used up.
const PATIENCE: u32 = 50;

/// How a trie knows `net`.
pub(super) fn key(net: &Net) -> Key<Addr> {
    Key::new(u32::from(net.prefix()), net.addr())
}

fn net_of(key: &Key<Addr>) -> Net {
    Net::new(key.data(), key.prefix_len() as u8)
}

/// A map from prefixes to values.
pub(super) trait Table<V: bytemuck::Pod> {
    const NAME: &'static str;
    type Key: bytemuck::Pod;

    fn fd(&self) -> BorrowedFd<'_>;
    fn key(net: &Net) -> Self::Key;
    fn net(key: &Self::Key) -> Net;
    fn insert(&mut self, net: &Net, value: V) -> Result<(), Error>;
    fn remove(&mut self, net: &Net) -> Result<bool, Error>;
    /// All entries, one by one.
    fn walk(&self) -> Result<Entries<V>, Error>;

    fn entries(&self) -> Result<Entries<V>, Error> {
        match bpf::map_entries::<Self::Key, V>(self.fd(), BATCH) {
            Ok(entries) => {
                Ok(entries.iter().map(|(key, value)| (Self::net(key), *value)).collect())
            }
            // No batches for this kind of map, or no room for what hashes to one place.
            Err(_) => self.walk(),
        }
    }

    fn insert_all(&mut self, entries: &[(Net, V)]) -> Result<(), Error> {
        let mut rest = entries;
        let mut waited = 0;
        while !rest.is_empty() {
            let batch = &rest[..rest.len().min(BATCH)];
            let keys: Vec<_> = batch.iter().map(|(net, _)| Self::key(net)).collect();
            let values: Vec<_> = batch.iter().map(|(_, value)| *value).collect();
            let (done, result) = bpf::map_update_batch(self.fd(), &keys, &values);
            rest = &rest[done..];
            match result {
                Ok(()) => waited = 0,
                Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && waited < PATIENCE => {
                    waited = if done > 0 { 0 } else { waited + 1 };
                    pause();
                }
                // No batches for this kind of map (5.10 has none for tries), or a failure whose
                // reason the single call tells better.
                Err(_) => {
                    let Some(((net, value), others)) = rest.split_first() else { break };
                    self.insert(net, *value)?;
                    rest = others;
                }
            }
        }
        Ok(())
    }

    fn remove_all(&mut self, nets: &[Net]) -> Result<(), Error> {
        let mut rest = nets;
        while !rest.is_empty() {
            let keys: Vec<_> = rest.iter().take(BATCH).map(Self::key).collect();
            let (done, result) = bpf::map_delete_batch(self.fd(), &keys);
            rest = &rest[done..];
            // No batches for this kind of map, or an entry that is not there.
            if let (Err(_), Some((net, others))) = (result, rest.split_first()) {
                self.remove(net)?;
                rest = others;
            }
        }
        Ok(())
    }
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "at start and reload only, a tick, and only on kernels that need it"
    )]
    std::thread::sleep(REFILL);
}

fn removed(result: Result<(), MapError>, map: &'static str) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(false)
        }
        Err(source) => Err(Error::map(map, "remove from")(source)),
    }
}

pub(super) struct HostMap<'a>(pub(super) &'a mut HashMap<MapData, Addr, BlockEntry>);

impl Table<BlockEntry> for HostMap<'_> {
    const NAME: &'static str = names::BLOCK_HOSTS;
    type Key = Addr;

    fn fd(&self) -> BorrowedFd<'_> {
        IterableMap::map(&*self.0).fd().as_fd()
    }

    fn key(net: &Net) -> Addr {
        net.addr()
    }

    fn net(key: &Addr) -> Net {
        Net::new(*key, 128)
    }

    fn insert(&mut self, net: &Net, value: BlockEntry) -> Result<(), Error> {
        self.0.insert(net.addr(), value, 0).map_err(Error::map(Self::NAME, "insert into"))
    }

    fn remove(&mut self, net: &Net) -> Result<bool, Error> {
        removed(self.0.remove(&net.addr()), Self::NAME)
    }

    fn walk(&self) -> Result<Entries<BlockEntry>, Error> {
        self.0
            .iter()
            .map(|entry| entry.map(|(addr, value)| (Net::new(addr, 128), value)))
            .collect::<Result<_, _>>()
            .map_err(Error::map(Self::NAME, "list"))
    }
}

/// A trie key as bytes; aya's has no [`bytemuck::Pod`].
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct TrieKey {
    bits: u32,
    addr: Addr,
}

macro_rules! trie_map {
    ($name:ident, $value:ty, $map:expr) => {
        pub(super) struct $name<'a>(pub(super) &'a mut LpmTrie<MapData, Addr, $value>);

        impl Table<$value> for $name<'_> {
            const NAME: &'static str = $map;
            type Key = TrieKey;

            fn fd(&self) -> BorrowedFd<'_> {
                IterableMap::map(&*self.0).fd().as_fd()
            }

            fn key(net: &Net) -> TrieKey {
                TrieKey { bits: u32::from(net.prefix()), addr: net.addr() }
            }

            fn net(key: &TrieKey) -> Net {
                Net::new(key.addr, key.bits as u8)
            }

            fn insert(&mut self, net: &Net, value: $value) -> Result<(), Error> {
                self.0.insert(&key(net), value, 0).map_err(Error::map(Self::NAME, "insert into"))
            }

            fn remove(&mut self, net: &Net) -> Result<bool, Error> {
                removed(self.0.remove(&key(net)), Self::NAME)
            }

            fn walk(&self) -> Result<Entries<$value>, Error> {
                self.0
                    .iter()
                    .map(|entry| entry.map(|(key, value)| (net_of(&key), value)))
                    .collect::<Result<_, _>>()
                    .map_err(Error::map(Self::NAME, "list"))
            }
        }
    };
}

trie_map!(NetMap, BlockEntry, names::BLOCK_NETS);
trie_map!(AllowMap, AllowEntry, names::ALLOW_NETS);
