//! BTF without the texts that no type is named by: lines of source, which `.BTF.ext` alone refers to.
//!
//! The format is that of the kernel's Documentation/bpf/btf.rst.

use anyhow::{Context as _, Result, bail};
use object::{Endianness, Object as _, ObjectSection as _};

/// Bytes of a type before what its kind has.
const TYPE: usize = 12;
/// In the header: where its length is, then offset and length of the types, then of the texts.
const HEADER_LEN: usize = 4;
/// In the header of a section of a 64-bit ELF file, and bytes of one.
const SECTION_SIZE: usize = 32;
const SECTION_HEADER: usize = 64;

/// Shortens section `.BTF` of an object in its place. The file keeps its length until it is laid out anew.
pub(crate) fn shorten(elf: &mut [u8]) -> Result<()> {
    let file = object::read::elf::ElfFile64::<Endianness>::parse(&*elf).context("no object")?;
    let is_little = file.endian() == Endianness::Little;
    let section = file.section_by_name(".BTF").context("an object without .BTF")?;
    let (offset, _) = section.file_range().context("a section .BTF without content")?;
    let header = file.elf_header().e_shoff.get(file.endian()) as usize
        + section.index().0 * SECTION_HEADER
        + SECTION_SIZE;
    let short = without_unused(section.data()?, is_little)?;
    let size = short.len() as u64;
    let size = if is_little { size.to_le_bytes() } else { size.to_be_bytes() };
    elf[offset as usize..][..short.len()].copy_from_slice(&short);
    elf[header..][..size.len()].copy_from_slice(&size);
    Ok(())
}

/// The same types, with no other texts than their names.
fn without_unused(btf: &[u8], is_little: bool) -> Result<Vec<u8>> {
    let read = |at: usize| -> Result<u32> {
        let bytes = btf.get(at..at + 4).context("BTF that ends too early")?.try_into()?;
        Ok(if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
    };
    let header = read(HEADER_LEN)? as usize;
    let field = |number: usize| read(HEADER_LEN + 4 * number).map(|value| value as usize);
    let (types, types_len, texts, texts_len) = (field(1)?, field(2)?, field(3)?, field(4)?);
    if types != 0 || texts != types_len || btf.len() != header + texts + texts_len {
        bail!("BTF in another order: types {types} {types_len}, texts {texts} {texts_len}");
    }
    let old = &btf[header + texts..];
    let mut short = btf[..header + types_len].to_vec();
    let mut new = vec![0];
    let mut put = |at: usize, value: usize| {
        let value = value as u32;
        let bytes = if is_little { value.to_le_bytes() } else { value.to_be_bytes() };
        short[at..at + 4].copy_from_slice(&bytes);
    };
    let mut at = header;
    while at < header + types_len {
        let info = read(at + 4)?;
        let (kind, count) = (info >> 24 & 31, (info & 0xffff) as usize);
        // What follows: bytes each, how many, and whether each begins with a name.
        let (each, count, is_named) = match kind {
            2 | 7..=12 | 16 | 18 => (0, 0, false),
            1 | 14 | 17 => (4, 1, false),
            3 => (12, 1, false),
            4 | 5 | 19 => (12, count, true),
            6 | 13 => (8, count, true),
            15 => (12, count, false),
            _ => bail!("BTF of kind {kind}"),
        };
        let members = (0..if is_named { count } else { 0 }).map(|number| at + TYPE + each * number);
        for place in std::iter::once(at).chain(members) {
            let name = old.get(read(place)? as usize..).context("a name outside the texts")?;
            let end = name.iter().position(|byte| *byte == 0).context("a name without an end")?;
            let name = &name[..=end];
            // A name that is the end of another one may lie in it.
            let known = new.windows(name.len()).position(|window| window == name);
            put(place, known.unwrap_or(new.len()));
            if known.is_none() {
                new.extend_from_slice(name);
            }
        }
        at += TYPE + each * count;
    }
    put(HEADER_LEN + 16, new.len());
    short.extend_from_slice(&new);
    Ok(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXTS: &[u8] = b"\0let a = b;\0u32\0pair\0first\0    }\0irst\0map\0";

    fn text(name: &str) -> u32 {
        let name = format!("\0{name}\0");
        let found = TEXTS.windows(name.len()).position(|window| window == name.as_bytes());
        found.unwrap() as u32 + 1
    }

    /// An integer, a structure of two members, a pointer without a name and a section of one variable.
    fn btf(is_little: bool) -> Vec<u8> {
        let types: &[&[u32]] = &[
            &[text("u32"), 1 << 24, 4, 32],
            &[text("pair"), 4 << 24 | 2, 8, text("first"), 1, 0, text("irst"), 1, 32],
            &[0, 2 << 24, 2],
            &[text("map"), 15 << 24 | 1, 8, 2, 0, 8],
        ];
        let types = types.concat();
        let len = 4 * types.len() as u32;
        let head = [24, 0, len, len, TEXTS.len() as u32];
        let words = head.iter().chain(&types);
        let mut bytes = if is_little { vec![0x9f, 0xeb, 1, 0] } else { vec![0xeb, 0x9f, 1, 0] };
        for word in words {
            bytes.extend(if is_little { word.to_le_bytes() } else { word.to_be_bytes() });
        }
        bytes.extend_from_slice(TEXTS);
        bytes
    }

    #[test]
    fn texts_that_name_nothing_are_gone_and_every_name_stays() {
        for is_little in [false, true] {
            let long = btf(is_little);
            let short = without_unused(&long, is_little).unwrap();
            let types = 24 + 4 * (4 + 9 + 3 + 6);
            assert_eq!(&short[types..], b"\0u32\0pair\0first\0map\0");
            let word = |at: usize| {
                let bytes = short[at..at + 4].try_into().unwrap();
                if is_little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
            };
            assert_eq!(word(20), 20, "bytes of texts");
            let name = |at: usize| {
                let name = &short[types + word(at) as usize..];
                std::str::from_utf8(name.split(|byte| *byte == 0).next().unwrap()).unwrap()
            };
            let names = [24, 40, 52, 64, 76, 88].map(name);
            assert_eq!(names, ["u32", "pair", "first", "irst", "", "map"]);
            // Nothing else is different, and nothing is left to do.
            let mut same = long[..types].to_vec();
            for at in [20, 24, 40, 52, 64, 88] {
                same[at..at + 4].copy_from_slice(&short[at..at + 4]);
            }
            assert_eq!(short[..types], same);
            assert_eq!(without_unused(&short, is_little).unwrap(), short);
        }
    }

    #[test]
    fn what_is_cut_short_or_not_known_is_refused() {
        let long = btf(true);
        for len in 0..long.len() {
            assert!(without_unused(&long[..len], true).is_err(), "{len}");
        }
        let mut unknown = long.clone();
        unknown[24 + 7] = 31;
        assert!(without_unused(&unknown, true).unwrap_err().to_string().contains("kind 31"));
        let mut outside = long;
        outside[24..28].copy_from_slice(&1000_u32.to_le_bytes());
        assert!(without_unused(&outside, true).is_err());
        assert!(shorten(&mut [0; 64]).is_err());
    }
}
