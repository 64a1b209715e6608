//! Checks of the built objects: what a MIPS router's kernel could not run, and what must not grow unseen.

mod budget;
mod object;

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use lexopt::Arg::Long;

use crate::ebpf;
use crate::run;
use budget::Budgets;
use object::Object;

/// `check [--record]`.
pub(crate) fn main(mut parser: lexopt::Parser) -> Result<()> {
    let mut record = false;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("record") => record = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let budgets_path = run::root().join("cross/budgets.toml");
    let objects = read()?;
    if record {
        run::write_if_changed(&budgets_path, Budgets::of(&objects).to_toml().as_bytes())?;
        println!("check: recorded {}", run::relative(&budgets_path));
    }
    let text = std::fs::read_to_string(&budgets_path)
        .with_context(|| format!("could not read {}", budgets_path.display()))?;
    let budgets = Budgets::parse(&text)?;

    let mut faults: Vec<String> = Vec::new();
    for object in &objects {
        faults.extend(object.faults.iter().map(|fault| format!("{}: {fault}", object.label())));
    }
    let (table, over) = budgets.compare(&objects);
    print!("{table}");
    faults.extend(over);
    if faults.is_empty() {
        println!("check: {} objects are sound and within their budgets", objects.len());
        return Ok(());
    }
    bail!("{} faults in the objects\n  {}", faults.len(), faults.join("\n  "))
}

/// Reads every built object. The two endiannesses must hold the same ones.
fn read() -> Result<Vec<Object>> {
    let mut objects = Vec::new();
    let mut names = Vec::new();
    for endianness in ebpf::ENDIANNESSES {
        let directory = ebpf::directory().join(endianness);
        let mut paths = std::fs::read_dir(&directory)
            .and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<PathBuf>, _>>())
            .with_context(|| {
                format!("no objects in {}: run cargo xtask ebpf", directory.display())
            })?;
        paths.sort();
        let mut found = Vec::new();
        for path in paths {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let elf = std::fs::read(&path)?;
            let object = Object::read(&name, endianness, &elf)
                .with_context(|| format!("{} is no object", path.display()))?;
            objects.push(object);
            found.push(name);
        }
        names.push(found);
    }
    if names.iter().any(|found| found.is_empty() || *found != names[0]) {
        bail!("the endiannesses hold different objects: {names:?}; run cargo xtask ebpf");
    }
    Ok(objects)
}
