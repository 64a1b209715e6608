//! R182: a million addresses, 100,000 prefixes and a million domains in one agent, kernel and user
//! space together, at rest and while they are replaced.
//!
//! Runs on this machine, and on one of 128 MiB that has nothing but this test and the agent
//! (`small` in `tests/vm/kernels.toml`), where the kernel says what is left of its memory.

#![expect(clippy::print_stdout, reason = "what was measured")]
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, OpenOptions};
use std::io::{BufWriter, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use sluice::control::client::ask;
use sluice::control::{Request, socket_path};
use sluice_tests::agent::{mount_bpffs, program};
use sluice_tests::bare::{alone, cable};
use sluice_tests::directory::{Directory, unique};
use sluice_tests::lists::Random;
use sluice_tests::plane::without_programs;
use sluice_tests::process::Daemon;
use sluice_tests::report::{Status, Why};
use sluice_tests::wait;

/// An emulated machine takes minutes for what this one takes seconds for.
const LIMIT: Duration = Duration::from_secs(400);
/// After so long without a change the machine is at rest.
const SETTLED: Duration = Duration::from_secs(20);
/// What everything may take at rest, and while it is replaced.
const REST_KIB: u64 = 12 << 10;
const SWAP_KIB: u64 = 24 << 10;
/// By how much what the whole machine has left differs from one boot to the next: page tables, pages of
/// each processor, what the kernel frees later.
const NOISE_KIB: u64 = 3 << 10;
/// What either kind of list may take while it is replaced: a little less than an eighth of 128 MiB.
const CAP_KIB: u64 = 14_000;
const DOMAINS: u32 = 1_000_000;
const HOSTS: u32 = 1_000_000;
const NETS: u32 = 100_000;

/// A line of `/proc/meminfo` or of a process's `status`, in KiB.
fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_ascii_whitespace().next().unwrap().parse().unwrap()
}

/// Memory that could still be used.
fn available() -> u64 {
    field("/proc/meminfo", "MemAvailable:")
}

/// Whether nothing else runs on this machine and its memory is what R182 asks for.
fn is_small() -> bool {
    field("/proc/meminfo", "MemTotal:") < 128 << 10
}

/// The agent and its files. Lists are written in place, because on the small machine files are
/// memory.
struct World {
    daemon: Daemon,
    files: Directory,
    pins: PathBuf,
}

impl World {
    fn start() -> Self {
        mount_bpffs().unwrap();
        let files = Directory::new("memory").unwrap();
        let pins = Path::new("/sys/fs/bpf").join(unique("pins"));
        let mut command = Command::new(program().unwrap());
        command.args(["run", "--config"]).arg(files.path().join("uci"));
        write_lists(files.path(), 1);
        configure(&files, &pins, false, CAP_KIB);
        let daemon = Daemon::spawn("sluice", command, files.path()).unwrap();
        let world = Self { daemon, files, pins };
        world.status(|status| status.state != "starting");
        world
    }

    /// Its status, once it is as `wanted`; while it reads lists it does not answer.
    fn status(&self, wanted: impl Fn(&Status) -> bool) -> Status {
        let socket = socket_path(&self.files.path().join("run"));
        let look = || Ok(ask(&socket, &Request::Status {}).ok().filter(&wanted));
        wait::until("the agent was as wanted", LIMIT, look).unwrap()
    }

    fn why(&self, subject: String) -> Why {
        ask(&socket_path(&self.files.path().join("run")), &Request::Why { subject }).unwrap()
    }

    /// Resident memory that is the agent's own.
    fn own(&self, name: &str) -> u64 {
        field(&format!("/proc/{}/status", self.daemon.pid()), name)
    }

    /// Asks for a reload, and gives the status that follows and what was least available meanwhile.
    fn reload(&mut self, wanted: impl Fn(&Status) -> bool) -> (Status, u64) {
        // The peak of the process is counted anew from here on.
        if let Err(error) = fs::write(format!("/proc/{}/clear_refs", self.daemon.pid()), "5") {
            // A router's kernel has no such file (PROC_PAGE_MONITOR): then it is the peak of all loads.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        let (is_over, least) = (AtomicBool::new(false), AtomicUsize::new(available() as usize));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    least.fetch_min(available() as usize, Ordering::Relaxed);
                    wait::pause(Duration::from_millis(2));
                }
            });
            self.daemon.signal(Signal::SIGHUP).unwrap();
            let status = self.status(wanted);
            is_over.store(true, Ordering::Relaxed);
            (status, least.load(Ordering::Relaxed) as u64)
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ended = self.daemon.stop();
        let _removed = fs::remove_dir_all(&self.pins);
    }
}

fn configure(files: &Directory, pins: &Path, enabled: bool, domain_kib: u64) {
    let path = |name: &str| files.path().join(name).display().to_string();
    let on = u8::from(enabled);
    let text = format!(
        "config sluice main\n\toption pin_dir '{}'\n\toption run_dir '{}'\n\
         \toption list_memory_kib {CAP_KIB}\n\toption domain_memory_kib {domain_kib}\n\
         config interface wan\n\toption device wan\n\toption role wan\n\
         config interface lan\n\toption device lan\n\toption role lan\n\
         config blocklist bad\n\toption enabled {on}\n\tlist file '{}'\n\
         config domainlist ads\n\toption enabled {on}\n\tlist file '{}'\n",
        pins.display(),
        path("run"),
        path("addresses"),
        path("domains")
    );
    files.write("uci", text).unwrap();
}

/// The domain `number` of a list. Short, because on the small machine the file is memory.
fn domain(seed: u32, number: u32) -> String {
    format!("{:05x}.{:x}.l{seed}.test", number / 16, number % 16)
}

/// Other addresses and other names for each seed, line by line.
fn write_lists(directory: &Path, seed: u32) {
    let write = |name: &str, lines: &mut dyn FnMut(&mut BufWriter<fs::File>)| {
        let path = directory.join(name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        let mut file = BufWriter::new(file);
        lines(&mut file);
        let end = file.stream_position().unwrap();
        file.into_inner().unwrap().set_len(end).unwrap();
    };
    let mut random = Random::new(u64::from(seed));
    write("addresses", &mut |file| {
        for _ in 0..HOSTS {
            writeln!(file, "{}", random.address()).unwrap();
        }
        for _ in 0..NETS {
            let address = random.address().to_bits() >> 8 << 8;
            writeln!(file, "{}/24", std::net::Ipv4Addr::from_bits(address)).unwrap();
        }
    });
    write("domains", &mut |file| {
        (0..DOMAINS).for_each(|number| writeln!(file, "{}", domain(seed, number)).unwrap());
    });
}

fn held(what: &str, least: u64, most: u64) {
    println!("{what}: {least} KiB of {most} KiB");
    assert!(least <= most, "{what}: {least} KiB, allowed are {most} KiB");
}

#[test]
fn all_lists_fit_at_rest_and_while_they_are_replaced() {
    if without_programs() {
        return;
    }
    alone(|| {
        cable(["wan", "lan"]);
        let mut world = World::start();
        let is_small = is_small();
        println!("{} KiB of memory", field("/proc/meminfo", "MemTotal:"));
        let (idle, free) = (world.own("VmRSS:"), available());
        println!("idle: {idle} KiB resident, {free} KiB available");
        let mut image = 0;
        for seed in [1, 2] {
            if seed == 2 {
                write_lists(world.files.path(), seed);
            }
            configure(&world.files, &world.pins, true, CAP_KIB);
            let (status, least) = world
                .reload(|status| !status.config_errors.is_empty() || status.generation == 1 + seed);
            assert_eq!(status.config_errors, [""; 0]);
            assert_eq!(status.lists[0].entries, u64::from(HOSTS + NETS));
            assert_eq!(status.domain_set.names, u64::from(DOMAINS));
            println!(
                "addresses {} KiB in {} ms, domains {} KiB in {} ms",
                status.list_image.kib,
                status.list_image.load_ms,
                status.domain_set.kib,
                status.domain_set.load_ms
            );
            // In the process, at its own peak, and in the kernel, at its own, were they to meet.
            let peak = world.own("VmHWM:").saturating_sub(idle);
            held("replaced, by parts", peak + image + status.list_image.kib, SWAP_KIB);
            image = status.list_image.kib;
            let resident = world.own("VmRSS:").saturating_sub(idle);
            held("at rest, by parts", resident + image, REST_KIB);
            if is_small {
                held("replaced", free.saturating_sub(least), SWAP_KIB + NOISE_KIB);
                // The kernel gives pages back in its own time.
                let used = || free.saturating_sub(available());
                wait::settles(SETTLED, || used() <= REST_KIB + NOISE_KIB);
                held("at rest", used(), REST_KIB + NOISE_KIB);
            }
            // What is there is what was written.
            for number in (0..DOMAINS).step_by(99_991) {
                let why = world.why(format!("www.{}", domain(seed, number)));
                assert_eq!(why.causes.len(), 1, "{number}");
            }
            assert_eq!(world.why(domain(3 - seed, 7)).causes.len(), 0);
        }

        // A cap that the lists in force and the new ones do not fit in beside each other.
        write_lists(world.files.path(), 3);
        configure(&world.files, &world.pins, true, 11_000);
        let (status, least) = world.reload(|status| !status.config_errors.is_empty());
        println!("{}", status.config_errors[0]);
        assert!(status.config_errors[0].ends_with("domain_memory_kib allows 11,000 KiB"));
        assert_eq!(status.generation, 3);
        if is_small {
            // The peak of the process is that of the swap, and stays.
            held("refused", free.saturating_sub(least), REST_KIB + NOISE_KIB);
        } else {
            let peak = world.own("VmHWM:").saturating_sub(idle);
            held("refused, by parts", peak + image, REST_KIB);
        }
        assert_eq!(world.why(domain(2, 7)).causes.len(), 1);
    });
}
