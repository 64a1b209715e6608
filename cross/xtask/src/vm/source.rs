//! Kernels built here: Debian's kernel source with a router's options (`tests/vm/router-*.config`), which no package
//! has. Built once and kept in the cache under what they were built from.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::cells::Machine;
use super::package;
use crate::run;

/// Debian's package with the source; its version is part of the kernel's place in the cache.
const PACKAGE: &str = "linux-source-6.12";
/// Counts changes of how a kernel is built that its options do not show.
const RECIPE: u32 = 1;

/// The image and release of a router's kernel for a machine.
pub(crate) fn router(machine: Machine) -> Result<(PathBuf, String)> {
    let options = options(machine)?;
    let key = fnv(&[PACKAGE.as_bytes(), &RECIPE.to_be_bytes(), options.as_bytes()]);
    let name = format!("router-{}_{key:016x}", machine.name());
    let directory = run::cache()?.join("kernels").join(name);
    if !directory.is_dir() {
        build(machine, &options, &directory)?;
    }
    let release = std::fs::read_to_string(directory.join("release"))
        .with_context(|| format!("{} is not whole: remove it", directory.display()))?;
    Ok((directory.join("image"), release.trim().to_owned()))
}

/// What differs between machines.
struct Recipe {
    /// The kernel's name of the architecture.
    arch: &'static str,
    /// Prefix of the compiler's programs.
    compiler: &'static str,
    /// What make is told to make.
    goal: &'static str,
    /// Where that lies afterwards.
    image: &'static str,
}

const fn recipe(machine: Machine) -> Recipe {
    match machine {
        Machine::X86_64 => {
            Recipe { arch: "x86", compiler: "", goal: "bzImage", image: "arch/x86/boot/bzImage" }
        }
        Machine::Mips => {
            Recipe { arch: "mips", compiler: "mips-linux-gnu-", goal: "vmlinux", image: "vmlinux" }
        }
    }
}

/// The options that every router's kernel has, and those of the machine.
fn options(machine: Machine) -> Result<String> {
    let mut text = String::new();
    for part in ["common", machine.name()] {
        let path = run::root().join(format!("tests/vm/router-{part}.config"));
        text += &std::fs::read_to_string(&path)
            .with_context(|| format!("could not read {}", path.display()))?;
    }
    Ok(text)
}

/// Builds a kernel. The directory appears only when it is complete.
fn build(machine: Machine, options: &str, directory: &Path) -> Result<()> {
    let started = Instant::now();
    let scratch = directory.with_extension(format!("{}.partial", std::process::id()));
    std::fs::create_dir_all(&scratch)?;
    println!("vm: building a kernel for {} (some minutes, once)", machine.name());
    let result = build_in(&scratch, &recipe(machine), options).and_then(|()| {
        std::fs::rename(scratch.join("kept"), directory)?;
        Ok(())
    });
    std::fs::remove_dir_all(&scratch)?;
    result?;
    println!("vm: built in {} s", started.elapsed().as_secs());
    Ok(())
}

fn build_in(scratch: &Path, recipe: &Recipe, options: &str) -> Result<()> {
    let source = unpack(scratch)?;
    let out = scratch.join("out");
    let kept = scratch.join("kept");
    std::fs::create_dir(&out)?;
    std::fs::create_dir(&kept)?;
    let wanted = scratch.join("wanted");
    std::fs::write(&wanted, options)?;
    let make = |goal: &str| {
        let mut command = run::clean("nice");
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        command.args(["-n", "5", "make", "--silent", &format!("-j{processors}")]);
        command.current_dir(&source);
        command.arg(format!("O={}", out.display()));
        command.arg(format!("ARCH={}", recipe.arch));
        command.arg(format!("CROSS_COMPILE={}", recipe.compiler));
        command.arg(goal).env("KCONFIG_ALLCONFIG", &wanted);
        // The same bytes whoever builds it and when.
        command.env("KBUILD_BUILD_TIMESTAMP", "@0").env("KBUILD_BUILD_USER", "sluice");
        command.env("KBUILD_BUILD_HOST", "sluice");
        command
    };
    run::output(&mut make("allnoconfig"))?;
    let config = std::fs::read_to_string(out.join(".config"))?;
    let missing = refused(options, &config);
    if !missing.is_empty() {
        bail!("the kernel does not take these options: {}", missing.join(" "));
    }
    run::run(&mut make(recipe.goal))?;
    let strip = format!("{}strip", recipe.compiler);
    let image = kept.join("image");
    if recipe.goal == "vmlinux" {
        let image = ["-o".as_ref(), image.as_os_str(), out.join(recipe.image).as_os_str()]
            .map(OsStr::to_owned);
        run::run(Command::new(strip).args(image))?;
    } else {
        std::fs::copy(out.join(recipe.image), image)?;
    }
    std::fs::copy(out.join("include/config/kernel.release"), kept.join("release"))?;
    std::fs::write(kept.join("config"), config)?;
    Ok(())
}

/// The kernel's source, unpacked below `scratch`.
fn unpack(scratch: &Path) -> Result<PathBuf> {
    let tree = package::unpack(PACKAGE, scratch)?;
    let archive = tree.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    run::run(Command::new("tar").arg("-C").arg(scratch).arg("-xf").arg(&archive))?;
    std::fs::remove_dir_all(tree)?;
    Ok(scratch.join(PACKAGE))
}

/// Options that are wanted and did not survive: another one that they depend on is missing.
fn refused<'a>(wanted: &'a str, config: &str) -> Vec<&'a str> {
    let kept: std::collections::HashSet<&str> = config.lines().collect();
    let wanted = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    wanted.filter(|line| !kept.contains(line)).collect()
}

/// FNV-1a: the same number for the same parts, whatever compiler xtask was built by.
fn fnv(parts: &[&[u8]]) -> u64 {
    parts.iter().flat_map(|part| part.iter()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_the_kernel_does_not_take_are_named() {
        let wanted = "# why\nCONFIG_A=y\nCONFIG_B=y\nCONFIG_C=64\n";
        assert!(refused(wanted, "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=64\n").is_empty());
        assert_eq!(
            refused(wanted, "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=6\n"),
            ["CONFIG_B=y", "CONFIG_C=64"]
        );
    }

    #[test]
    fn a_kernel_is_kept_under_what_it_was_built_from() {
        // The published test vector of FNV-1a.
        assert_eq!(fnv(&[b"foobar"]), 0x8594_4171_f739_67e8);
        assert_eq!(fnv(&[b"foo", b"bar"]), fnv(&[b"foobar"]));
        let [x86, mips] = [Machine::X86_64, Machine::Mips].map(|m| options(m).unwrap());
        assert!(x86.contains("CONFIG_NETDEVSIM=y") && mips.contains("CONFIG_CPU_BIG_ENDIAN=y"));
        assert_ne!(x86, mips);
    }
}
