//! Crafted objects: one that is right, and each fault put into it once.

use object::write::{self, Relocation, StandardSection, Symbol, SymbolSection as Place};
use object::{BinaryFormat, SymbolFlags, SymbolScope};

use super::*;

const EXIT: [u8; 8] = [0x95, 0, 0, 0, 0, 0, 0, 0];

/// What to build; `Default` is an object without faults.
struct Recipe {
    endianness: Endianness,
    architecture: Architecture,
    licence: Option<&'static [u8]>,
    code: Vec<[u8; 8]>,
    /// A relocation of the first instruction: its type and whether the symbol is defined (in `.text`).
    relocation: Option<(u32, bool)>,
    /// Extra sections: name, kind.
    sections: Vec<(&'static str, SectionKind)>,
    btf: bool,
    /// Bytes of the section that the program's symbol leaves out.
    hidden: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            endianness: Endianness::Little,
            architecture: Architecture::Bpf,
            licence: Some(b"Dual MIT/GPL\0"),
            code: vec![call(0, 5), EXIT],
            relocation: None,
            sections: Vec::new(),
            btf: true,
            hidden: 0,
        }
    }
}

/// A little-endian `call`.
fn call(source: u8, immediate: i32) -> [u8; 8] {
    let [a, b, c, d] = immediate.to_le_bytes();
    [CALL, source << 4, 0, 0, a, b, c, d]
}

impl Recipe {
    fn build(self) -> Vec<u8> {
        let mut object = write::Object::new(BinaryFormat::Elf, self.architecture, self.endianness);
        let xdp = object.add_section(Vec::new(), b"xdp".to_vec(), SectionKind::Text);
        let code = self.code.concat();
        object.append_section_data(xdp, &code, 8);
        object.add_symbol(symbol("shield", code.len() as u64 - self.hidden, Place::Section(xdp)));
        if let Some((r_type, defined)) = self.relocation {
            let place = if defined {
                let text = object.section_id(StandardSection::Text);
                object.append_section_data(text, &EXIT, 8);
                Place::Section(text)
            } else {
                Place::Undefined
            };
            let callee = object.add_symbol(symbol("memset", 0, place));
            object
                .add_relocation(
                    xdp,
                    Relocation {
                        offset: 0,
                        symbol: callee,
                        addend: 0,
                        flags: RelocationFlags::Elf { r_type },
                    },
                )
                .unwrap();
        }
        if let Some(licence) = self.licence {
            let section = object.add_section(Vec::new(), b"license".to_vec(), SectionKind::Data);
            object.append_section_data(section, licence, 1);
        }
        if self.btf {
            let section = object.add_section(Vec::new(), b".BTF".to_vec(), SectionKind::Other);
            object.append_section_data(section, &[1], 1);
        }
        for (name, kind) in self.sections {
            let section = object.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
            object.append_section_data(section, &EXIT, 8);
        }
        object.write().unwrap()
    }

    fn faults(self) -> Vec<String> {
        Object::read("shield", "bpfel", &self.build()).unwrap().faults
    }
}

fn symbol(name: &str, size: u64, section: Place) -> Symbol {
    Symbol {
        name: name.as_bytes().to_vec(),
        value: 0,
        size,
        kind: SymbolKind::Text,
        scope: SymbolScope::Linkage,
        weak: false,
        section,
        flags: SymbolFlags::None,
    }
}

#[test]
fn an_object_without_faults_has_none_and_is_counted_in_slots() {
    let object = Object::read("shield", "bpfel", &Recipe::default().build()).unwrap();
    assert_eq!(object.faults, [""; 0]);
    assert_eq!(object.programs, [("shield".to_owned(), 2)]);
}

#[test]
fn every_fault_is_named() {
    #[rustfmt::skip]
    let cases = [
        (Recipe { relocation: Some((R_BPF_64_32, true)), code: vec![call(1, -1), EXIT], ..Recipe::default() },
            ["xdp+0x0 calls memset"].as_slice()),
        (Recipe { relocation: Some((R_BPF_64_32, false)), code: vec![call(1, -1), EXIT], ..Recipe::default() },
            &["xdp+0x0 calls kfunc memset"]),
        (Recipe { code: vec![EXIT, call(1, 0), EXIT], ..Recipe::default() }, &["xdp+0x8 calls a subprogram"]),
        (Recipe { code: vec![call(2, 77), EXIT], ..Recipe::default() }, &["xdp+0x0 calls a kfunc"]),
        (Recipe { code: vec![call(0, 6), EXIT], ..Recipe::default() },
            &["xdp+0x0 calls trace_printk, which routers' kernels do not have"]),
        (Recipe { code: vec![call(0, 177), EXIT], ..Recipe::default() },
            &["xdp+0x0 calls trace_vprintk, which routers' kernels do not have"]),
        (Recipe { code: vec![[CALL_REGISTER, 0, 0, 0, 0, 0, 0, 0], EXIT], ..Recipe::default() },
            &["xdp+0x0 calls a register"]),
        (Recipe { code: vec![[LOAD_IMMEDIATE, PSEUDO_FUNC << 4, 0, 0, 0, 0, 0, 0], [0; 8], EXIT], ..Recipe::default() },
            &["xdp+0x0 takes a function's address"]),
        (Recipe { relocation: Some((R_BPF_64_64, true)), code: vec![[LOAD_IMMEDIATE, 0, 0, 0, 0, 0, 0, 0], [0; 8], EXIT],
            ..Recipe::default() }, &["xdp+0x0 takes a function's address"]),
        (Recipe { licence: None, ..Recipe::default() }, &["has no licence section"]),
        (Recipe { licence: Some(b"Apache-2.0\0"), ..Recipe::default() },
            &["licence \"Apache-2.0\" does not open GPL-only helpers"]),
        (Recipe { licence: Some(b"GPL"), ..Recipe::default() }, &["licence \"GPL\" does not open GPL-only helpers"]),
        (Recipe { btf: false, ..Recipe::default() }, &["has no .BTF"]),
        (Recipe { sections: vec![(".debug_info", SectionKind::Debug)], ..Recipe::default() },
            &["is not stripped: .debug_info"]),
        (Recipe { architecture: Architecture::X86_64, ..Recipe::default() }, &["is for X86_64, not for BPF"]),
        (Recipe { hidden: 8, ..Recipe::default() }, &["section xdp holds code of no program"]),
    ];
    for (recipe, wanted) in cases {
        let mut faults = recipe.faults();
        faults.sort();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(faults, wanted);
    }
}

#[test]
fn the_other_endianness_is_refused_and_its_calls_are_read_right() {
    let [_, _, _, _, a, b, c, d] = call(0, 6);
    let swapped = [CALL, PSEUDO_CALL, 0, 0, d, c, b, a];
    let recipe =
        Recipe { endianness: Endianness::Big, code: vec![swapped, EXIT], ..Recipe::default() };
    let elf = recipe.build();
    assert_eq!(
        Object::read("shield", "bpfel", &elf).unwrap().faults,
        ["is Big endian, wanted Little", "xdp+0x0 calls a subprogram"]
    );
    assert_eq!(
        Object::read("shield", "bpfeb", &elf).unwrap().faults,
        ["xdp+0x0 calls a subprogram"]
    );
}
