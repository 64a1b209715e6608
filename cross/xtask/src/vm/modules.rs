//! Kernel modules by name, with what they depend on, from an unpacked package. `modules.dep` is written when a
//! package is installed, so the modules themselves are asked.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

/// The modules of a directory, loadable in this order. A name with `?` before it may be missing; one that is built
/// into the kernel is left out.
pub(crate) fn collect(directory: &Path, names: &[String]) -> Result<Vec<(String, Vec<u8>)>> {
    let builtin = std::fs::read_to_string(directory.join("modules.builtin"))
        .with_context(|| format!("no modules.builtin in {}", directory.display()))?;
    let mut tree = Tree {
        builtin: builtin.lines().filter_map(|line| module_name(Path::new(line))).collect(),
        files: HashMap::new(),
        taken: HashSet::new(),
        order: Vec::new(),
    };
    tree.scan(&directory.join("kernel"))?;
    for name in names {
        match name.strip_prefix('?') {
            Some(optional) if !tree.knows(&canonical(optional)) => {}
            Some(optional) => tree.take(&canonical(optional))?,
            None => tree.take(&canonical(name))?,
        }
    }
    let numbered = tree.order.into_iter().enumerate();
    Ok(numbered.map(|(i, (name, content))| (format!("{i:03}-{name}.ko"), content)).collect())
}

struct Tree {
    builtin: HashSet<String>,
    files: HashMap<String, PathBuf>,
    taken: HashSet<String>,
    order: Vec<(String, Vec<u8>)>,
}

impl Tree {
    fn scan(&mut self, directory: &Path) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                self.scan(&path)?;
            } else if let Some(name) = module_name(&path) {
                self.files.insert(name, path);
            }
        }
        Ok(())
    }

    fn knows(&self, name: &str) -> bool {
        self.builtin.contains(name) || self.files.contains_key(name)
    }

    fn take(&mut self, name: &str) -> Result<()> {
        if self.builtin.contains(name) || !self.taken.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = self.files.get(name) else {
            bail!("the kernel has no module {name}");
        };
        let content = read(path)?;
        for dependency in dependencies(&content)? {
            self.take(&dependency)?;
        }
        self.order.push((name.to_owned(), content));
        Ok(())
    }
}

/// The name of a module's file without `.ko`, `.ko.xz`, in the spelling that the kernel uses.
fn module_name(path: &Path) -> Option<String> {
    let file = path.file_name()?.to_str()?;
    file.strip_suffix(".xz").unwrap_or(file).strip_suffix(".ko").map(canonical)
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_none_or(|extension| extension != "xz") {
        return Ok(std::fs::read(path)?);
    }
    let output = Command::new("xz").arg("-dc").arg(path).output().context("could not run xz")?;
    if !output.status.success() {
        bail!("xz -dc {} failed", path.display());
    }
    Ok(output.stdout)
}

/// The `depends=` entry of a module's `.modinfo`.
fn dependencies(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module)?;
    let Some(section) = file.section_by_name(".modinfo") else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(section.data()?);
    let depends = text.split('\0').find_map(|entry| entry.strip_prefix("depends="));
    Ok(depends
        .unwrap_or_default()
        .split(',')
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect())
}

#[cfg(test)]
mod tests {
    use object::{Architecture, BinaryFormat, Endianness, SectionKind, write};

    use super::*;

    fn module(info: &[u8]) -> Vec<u8> {
        let mut object =
            write::Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let id = object.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::Data);
        object.append_section_data(id, info, 1);
        object.write().unwrap()
    }

    #[test]
    fn a_module_comes_after_what_it_depends_on_and_each_once() {
        let directory = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
        let kernel = directory.join("kernel/net");
        std::fs::create_dir_all(&kernel).unwrap();
        std::fs::write(directory.join("modules.builtin"), "kernel/crypto/crc32c-generic.ko\n")
            .unwrap();
        for (name, info) in [
            ("nft-queue", "license=GPL\0depends=nf_tables,nfnetlink-queue\0"),
            ("nf_tables", "depends=nfnetlink,crc32c_generic\0"),
            ("nfnetlink_queue", "depends=nfnetlink\0"),
            ("nfnetlink", "depends=\0"),
        ] {
            std::fs::write(kernel.join(name).with_extension("ko"), module(info.as_bytes()))
                .unwrap();
        }
        let get = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            collect(&directory, &names)
                .map(|modules| modules.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(
            get(&["?absent", "nft_queue", "nfnetlink", "crc32c_generic"]).unwrap(),
            ["000-nfnetlink.ko", "001-nf_tables.ko", "002-nfnetlink_queue.ko", "003-nft_queue.ko"]
        );
        assert!(get(&["absent"]).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
