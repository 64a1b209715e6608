//! How eagerly a thread runs.

use std::io;

/// Makes the calling thread run before others that are ready; `nice` as of the program of that name.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers only. On Linux 0 is the calling thread, not its process.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS as _, 0, nice) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_thread_alone_becomes_patient() {
        // Anybody may do that.
        let patient = std::thread::spawn(|| {
            set_nice(7).unwrap();
            nice()
        });
        assert_eq!(patient.join().unwrap(), 7);
        assert_ne!(nice(), 7);
    }

    /// Of the calling thread: field 19 of its `stat`, the 17th behind the name.
    fn nice() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        fields.split(' ').nth(16).unwrap().parse().unwrap()
    }
}
