//! Executables without what no loader reads: everything behind the last byte that is mapped. `strip` leaves the table
//! of sections, and with it sections like MIPS' `.pdr`, which describes each function to a debugger of the nineties.

use anyhow::{Context as _, Result, bail};

/// Where the fields lie that are read and changed, for one of the two classes of ELF.
struct Layout {
    /// Bytes of an address.
    word: usize,
    program_headers: usize,
    section_headers: usize,
    /// Size and number of program headers; the last two words of the header are those of sections.
    program_entry: usize,
    section_count: usize,
    /// In a program header.
    offset: usize,
    file_size: usize,
}

const ELF_32: Layout = Layout {
    word: 4,
    program_headers: 28,
    section_headers: 32,
    program_entry: 42,
    section_count: 48,
    offset: 4,
    file_size: 16,
};
const ELF_64: Layout = Layout {
    word: 8,
    program_headers: 32,
    section_headers: 40,
    program_entry: 54,
    section_count: 60,
    offset: 8,
    file_size: 32,
};

/// The executable up to the end of its last segment, with a header that knows of no sections.
pub(crate) fn executable(mut elf: Vec<u8>) -> Result<Vec<u8>> {
    let (layout, is_little) = match elf.get(..6) {
        Some([0x7f, b'E', b'L', b'F', class @ (1 | 2), data @ (1 | 2)]) => {
            (if *class == 1 { ELF_32 } else { ELF_64 }, *data == 1)
        }
        _ => bail!("no ELF file"),
    };
    let number = |at: usize, width: usize| -> Result<usize> {
        let bytes = elf.get(at..at + width).context("an ELF file that ends too early")?;
        let fold = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
        Ok(if is_little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let first = number(layout.program_headers, layout.word)?;
    let (size, count) = (number(layout.program_entry, 2)?, number(layout.program_entry + 2, 2)?);
    let mut end = first + size * count;
    for header in (0..count).map(|index| first + size * index) {
        let offset = number(header + layout.offset, layout.word)?;
        end = end.max(offset + number(header + layout.file_size, layout.word)?);
    }
    if count == 0 || end > elf.len() {
        bail!("an ELF file whose segments are not in it");
    }
    for (at, width) in [(layout.section_headers, layout.word), (layout.section_count, 4)] {
        elf.get_mut(at..at + width).context("a short header")?.fill(0);
    }
    elf.truncate(end);
    Ok(elf)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of one segment that ends at byte 200, and 100 bytes that nobody maps.
    fn file(layout: &Layout, is_little: bool) -> Vec<u8> {
        let mut elf = vec![0xee; 300];
        elf[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', (layout.word / 4) as u8, 2]);
        elf[5] = if is_little { 1 } else { 2 };
        let mut put = |at: usize, width: usize, value: u64| {
            let bytes = if is_little {
                value.to_le_bytes()[..width].to_vec()
            } else {
                value.to_be_bytes()[8 - width..].to_vec()
            };
            elf[at..at + width].copy_from_slice(&bytes);
        };
        put(layout.program_headers, layout.word, 64);
        put(layout.section_headers, layout.word, 240);
        put(layout.program_entry, 2, 56);
        put(layout.program_entry + 2, 2, 1);
        put(64 + layout.offset, layout.word, 0);
        put(64 + layout.file_size, layout.word, 200);
        elf
    }

    #[test]
    fn what_is_behind_the_last_segment_is_cut_and_the_rest_stays() {
        for (layout, is_little) in [(ELF_32, false), (ELF_32, true), (ELF_64, true)] {
            let before = file(&layout, is_little);
            let after = executable(before.clone()).unwrap();
            assert_eq!(after.len(), 200);
            let mut expected = before[..200].to_vec();
            expected[layout.section_headers..][..layout.word].fill(0);
            // Of section headers: their number, and where their names are.
            expected[layout.section_count..][..4].fill(0);
            assert_eq!(after, expected);
            // A second time there is nothing to cut.
            assert_eq!(executable(after.clone()).unwrap(), after);
        }
    }

    #[test]
    fn the_program_that_runs_this_still_runs_without_its_sections() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let small = executable(own.clone()).unwrap();
        assert!(small.len() < own.len());
        let path = std::env::temp_dir().join(format!("xtask-trim-{}", std::process::id()));
        std::fs::write(&path, small).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let output = std::process::Command::new(&path).arg("--help").output();
        std::fs::remove_file(&path).unwrap();
        let text = output.unwrap().stdout;
        assert!(String::from_utf8(text).unwrap().contains("Usage"));
    }

    #[test]
    fn a_file_of_another_kind_or_cut_short_is_refused() {
        assert!(executable(b"#!/bin/sh\n".to_vec()).is_err());
        let mut short = file(&ELF_32, true);
        short.truncate(150);
        assert!(executable(short).is_err());
    }
}
