//! Values that programs read where they are (`BPF_PSEUDO_MAP_VALUE`, kernel 5.2).
//!
//! An object refers to them as to symbols that it does not define. Each is the one entry of the pinned array of
//! that name: the loader makes the array and writes its descriptor into the instructions that take the address,
//! before aya sees the object, which leaves references to undefined symbols as they are.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::path::PathBuf;

use aya::maps::MapData;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget};
use sluice_abi::live::Live;
use sluice_abi::names;
use sluice_abi::settings::Settings;

use super::error::Error;
use crate::sys::bpf;

/// Name and size of each.
const ALL: [(&str, usize); 3] = [
    (names::SETTINGS, size_of::<Settings>()),
    (names::EPOCH, size_of::<u32>()),
    (names::LIVE, size_of::<Live>()),
];

/// The arrays, open: until the programs of an object are in the kernel.
#[derive(Debug, Default)]
pub struct Values(Vec<(&'static str, MapData)>);

impl Values {
    /// Opens the pinned arrays; makes and pins those that are missing. `path` says where the array of a name is.
    pub fn open(path: impl Fn(&str) -> PathBuf) -> Result<Self, Error> {
        let mut values = Vec::with_capacity(ALL.len());
        for (name, size) in ALL {
            let path = path(name);
            let failed = |operation| move |source| Error::map(name, operation)(source);
            let map = if path.exists() {
                MapData::from_pin(&path).map_err(failed("open"))?
            } else {
                let pin = |source| Error::Pin { path: path.clone(), operation: "make", source };
                let map = bpf::array(name, size as u32, 1).map_err(pin)?;
                let map = MapData::from_fd(map).map_err(failed("make"))?;
                map.pin(&path).map_err(|source| pin(io::Error::other(source)))?;
                map
            };
            values.push((name, map));
        }
        Ok(Self(values))
    }

    /// A copy of an object for aya, with these values in it.
    pub fn put_into(&self, name: &'static str, object: &[u8]) -> Result<Aligned, Error> {
        let mut object = Aligned::of(object);
        let find = |symbol: &str| {
            let value = self.0.iter().find(|(name, _)| *name == symbol);
            value.map(|(_, map)| map.fd().as_fd().as_raw_fd())
        };
        let places = places(&object, find);
        let places = places.map_err(|source| Error::Object { object: name, source })?;
        for (at, map) in places {
            let Some(code) = object.bytes_mut().get_mut(at..at + LENGTH) else { continue };
            point(code, map);
        }
        Ok(object)
    }
}

/// Bytes of an instruction with a 64-bit number, which takes the place of two.
const LENGTH: usize = 16;

/// Where in `object` addresses of undefined symbols are taken, each with the map that `find` has for it.
fn places(
    object: &[u8],
    find: impl Fn(&str) -> Option<RawFd>,
) -> Result<Vec<(usize, RawFd)>, object::Error> {
    let file = object::File::parse(object)?;
    let mut places = Vec::new();
    for section in file.sections() {
        let Some((start, _)) = section.file_range() else { continue };
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(symbol) = relocation.target() else { continue };
            let symbol = file.symbol_by_index(symbol)?;
            if symbol.is_undefined()
                && let Some(map) = find(symbol.name()?)
            {
                places.push(((start + offset) as usize, map));
            }
        }
    }
    Ok(places)
}

/// Makes an instruction that takes a 64-bit number (`BPF_LD | BPF_IMM | BPF_DW`) take the address of the value of
/// an array, so many bytes behind its start as the number was.
fn point(code: &mut [u8], map: RawFd) {
    /// `BPF_PSEUDO_MAP_VALUE`, in the half of the byte that has the source register.
    const MAP_VALUE: u8 = if cfg!(target_endian = "little") { 2 << 4 } else { 2 };
    let (number, second) = (4..8, 12..16);
    code[1] |= MAP_VALUE;
    code.copy_within(number.clone(), second.start);
    code[number].copy_from_slice(&map.to_ne_bytes());
}

/// A copy at an address that is a multiple of eight, which the ELF parser insists on.
#[derive(Debug)]
pub struct Aligned {
    words: Vec<u64>,
    len: usize,
}

impl Aligned {
    fn of(bytes: &[u8]) -> Self {
        let mut copy = Self { words: vec![0; bytes.len().div_ceil(8)], len: bytes.len() };
        copy.bytes_mut().copy_from_slice(bytes);
        copy
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.words)[..self.len]
    }
}

impl std::ops::Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.words)[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_copied_to_an_aligned_address() {
        let bytes: Vec<u8> = (0..=100).collect();
        let copy = Aligned::of(&bytes[1..]);
        assert_eq!(&*copy, &bytes[1..]);
        assert_eq!(copy.as_ptr().addr() % 8, 0);
    }

    #[test]
    fn an_instruction_points_into_the_value_of_a_map() {
        // r3 = 8, as the machine has it.
        let registers = if cfg!(target_endian = "little") { 0x03 } else { 0x30 };
        let mut code = [0; LENGTH];
        (code[0], code[1]) = (0x18, registers);
        code[4..8].copy_from_slice(&8_i32.to_ne_bytes());
        point(&mut code, 0x1234);
        let expected = if cfg!(target_endian = "little") { 0x23 } else { 0x32 };
        assert_eq!((code[0], code[1]), (0x18, expected));
        assert_eq!(code[4..8], 0x1234_i32.to_ne_bytes());
        assert_eq!(code[12..16], 8_i32.to_ne_bytes());
        assert_eq!([&code[2..4], &code[8..12]].concat(), [0; 6]);
    }

    #[test]
    fn every_value_that_an_object_wants_is_there() {
        for object in [
            super::super::Objects::embedded().xdp_shield,
            super::super::Objects::embedded().tc_flow,
        ] {
            if object.is_empty() {
                continue;
            }
            let object = Aligned::of(object);
            let file = object::File::parse(&*object).unwrap();
            let wanted = file
                .symbols()
                .filter(object::ObjectSymbol::is_undefined)
                .map(|symbol| symbol.name().unwrap());
            let wanted: Vec<_> = wanted.filter(|name| !name.is_empty()).collect();
            assert!(!wanted.is_empty());
            for name in wanted {
                assert!(ALL.iter().any(|(value, _)| *value == name), "{name}");
            }
            let places = places(&object, |name| (name == names::SETTINGS).then_some(7)).unwrap();
            assert!(!places.is_empty());
            assert!(places.iter().all(|(at, _)| object[*at] == 0x18), "{places:?}");
        }
    }
}
