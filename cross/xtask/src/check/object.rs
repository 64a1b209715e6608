//! One object: its programs, how long they are, and what is wrong with them.

use std::collections::HashMap;

use anyhow::Result;
use object::{
    Architecture, Endianness, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags,
    RelocationTarget, Section, SectionKind, SymbolKind, SymbolSection,
};

/// Type of a relocation of a `call` to a function.
const R_BPF_64_32: u32 = 10;
/// Type of a relocation of a 64-bit immediate, which may be a function's address.
const R_BPF_64_64: u32 = 1;

/// Opcodes and the meanings of their source register field (include/uapi/linux/bpf.h).
const CALL: u8 = 0x85;
const CALL_REGISTER: u8 = 0x8d;
const LOAD_IMMEDIATE: u8 = 0x18;
const PSEUDO_CALL: u8 = 1;
const PSEUDO_KFUNC_CALL: u8 = 2;
const PSEUDO_FUNC: u8 = 4;

/// Helpers that no release object may call, with the reason.
const REFUSED_HELPERS: [(i32, &str); 2] = [
    (6, "trace_printk, which routers' kernels do not have"),
    (177, "trace_vprintk, which routers' kernels do not have"),
];

/// Licences that open the GPL-only helpers: `license_is_gpl_compatible` of include/linux/license.h.
const GPL_COMPATIBLE: [&str; 6] =
    ["GPL", "GPL v2", "GPL and additional rights", "Dual BSD/GPL", "Dual MIT/GPL", "Dual MPL/GPL"];

/// What the checks have to know about an object.
pub(crate) struct Object {
    /// The file's name without extension.
    pub(crate) name: String,
    /// `bpfel` or `bpfeb`.
    pub(crate) endianness: String,
    /// Size of the file in bytes.
    pub(crate) size: u64,
    /// Programs and their length in instruction slots, as the kernel counts before it verifies.
    pub(crate) programs: Vec<(String, u64)>,
    /// What is wrong, apart from budgets.
    pub(crate) faults: Vec<String>,
}

impl Object {
    /// Reads an ELF file that should hold programs for a machine of `endianness`.
    pub(crate) fn read(name: &str, endianness: &str, elf: &[u8]) -> Result<Self> {
        let file = object::File::parse(elf)?;
        let mut faults = Vec::new();
        let wanted = if endianness == "bpfeb" { Endianness::Big } else { Endianness::Little };
        if file.architecture() != Architecture::Bpf {
            faults.push(format!("is for {:?}, not for BPF", file.architecture()));
        }
        if file.endianness() != wanted {
            faults.push(format!("is {:?} endian, wanted {wanted:?}", file.endianness()));
        }
        faults.extend(licence_fault(&file));
        if file.section_by_name(".BTF").is_none_or(|btf| btf.size() == 0) {
            faults.push("has no .BTF".to_owned());
        }
        if let Some(debug) = file
            .sections()
            .find(|section| section.name().is_ok_and(|name| name.starts_with(".debug")))
        {
            faults.push(format!("is not stripped: {}", debug.name()?));
        }
        let mut programs = Vec::new();
        // `.text` holds what programs could call: `memset` and its kin are always there, and do no harm to programs
        // that do not.
        for section in file.sections().filter(|s| {
            s.kind() == SectionKind::Text && s.size() > 0 && s.name().is_ok_and(|n| n != ".text")
        }) {
            let before = programs.len();
            for symbol in file.symbols().filter(|s| {
                s.kind() == SymbolKind::Text
                    && s.section() == SymbolSection::Section(section.index())
            }) {
                programs.push((symbol.name()?.to_owned(), symbol.size() / 8));
            }
            let counted: u64 = programs[before..].iter().map(|(_, slots)| slots).sum();
            if counted * 8 != section.size() {
                faults.push(format!("section {} holds code of no program", section.name()?));
            }
            faults.extend(call_faults(&file, &section)?);
        }
        if programs.is_empty() {
            faults.push("holds no program".to_owned());
        }
        programs.sort();
        Ok(Self {
            name: name.to_owned(),
            endianness: endianness.to_owned(),
            size: elf.len() as u64,
            programs,
            faults,
        })
    }

    /// The object's name for people.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.endianness, self.name)
    }
}

fn licence_fault(file: &object::File<'_>) -> Option<String> {
    let Some(data) = file.section_by_name("license").and_then(|section| section.data().ok()) else {
        return Some("has no licence section".to_owned());
    };
    let text = data.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    (!GPL_COMPATIBLE.contains(&text.as_ref()) || data.last() != Some(&0))
        .then(|| format!("licence {text:?} does not open GPL-only helpers"))
}

/// Calls that a program must not contain.
///
/// A call to a function of the same object, be it a `memset` that the compiler put there, is one that a kernel
/// whose JIT has no BPF-to-BPF calls (MIPS) can at best interpret; a kfunc or a callback is worse.
fn call_faults(file: &object::File<'_>, section: &Section<'_, '_>) -> Result<Vec<String>> {
    let place = |offset: u64| Ok::<_, anyhow::Error>(format!("{}+{offset:#x}", section.name()?));
    let targets = relocations(section);
    let mut faults = Vec::new();
    for (index, slot) in section.data()?.chunks_exact(8).enumerate() {
        let offset = index as u64 * 8;
        let target = targets.get(&offset);
        let source = if file.is_little_endian() { slot[1] >> 4 } else { slot[1] & 0x0f };
        let immediate = [slot[4], slot[5], slot[6], slot[7]];
        let immediate = if file.is_little_endian() {
            i32::from_le_bytes(immediate)
        } else {
            i32::from_be_bytes(immediate)
        };
        match (slot[0], target) {
            (CALL, Some((R_BPF_64_32, symbol))) => {
                let callee = file.symbol_by_index(*symbol)?;
                let what = if callee.is_undefined() { "kfunc " } else { "" };
                faults.push(format!("{} calls {what}{}", place(offset)?, callee.name()?));
            }
            (CALL, _) if source == PSEUDO_CALL => {
                faults.push(format!("{} calls a subprogram", place(offset)?));
            }
            (CALL, _) if source == PSEUDO_KFUNC_CALL => {
                faults.push(format!("{} calls a kfunc", place(offset)?));
            }
            (CALL, _) => faults.extend(
                REFUSED_HELPERS
                    .iter()
                    .find(|(helper, _)| *helper == immediate)
                    .map(|(_, reason)| place(offset).map(|place| format!("{place} calls {reason}")))
                    .transpose()?,
            ),
            (CALL_REGISTER, _) => faults.push(format!("{} calls a register", place(offset)?)),
            (LOAD_IMMEDIATE, Some((R_BPF_64_64, symbol)))
                if file
                    .symbol_by_index(*symbol)
                    .is_ok_and(|symbol| points_to_code(file, &symbol)) =>
            {
                faults.push(format!("{} takes a function's address", place(offset)?));
            }
            (LOAD_IMMEDIATE, _) if source == PSEUDO_FUNC => {
                faults.push(format!("{} takes a function's address", place(offset)?));
            }
            _ => {}
        }
    }
    Ok(faults)
}

fn points_to_code<'a>(file: &object::File<'a>, symbol: &impl object::ObjectSymbol<'a>) -> bool {
    symbol
        .section_index()
        .and_then(|index| file.section_by_index(index).ok())
        .is_some_and(|section| section.kind() == SectionKind::Text)
}

fn relocations(section: &Section<'_, '_>) -> HashMap<u64, (u32, object::SymbolIndex)> {
    section
        .relocations()
        .filter_map(|(offset, relocation)| match (relocation.flags(), relocation.target()) {
            (RelocationFlags::Elf { r_type }, RelocationTarget::Symbol(symbol)) => {
                Some((offset, (r_type, symbol)))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
