//! How much memory the machine has, and this process uses.

/// KiB that the kernel manages; 0 when it does not say.
#[must_use]
pub fn total_kib() -> u64 {
    std::fs::read_to_string("/proc/meminfo").map_or(0, |text| field(&text, "MemTotal:"))
}

/// Bytes of a page.
#[must_use]
pub fn page() -> u32 {
    // SAFETY: the function has no preconditions.
    let bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(bytes).unwrap_or(4096)
}

/// Gives memory that was freed back to the kernel. musl does that by itself; the GNU allocator keeps
/// what it thinks it will need again.
pub fn give_back() {
    // SAFETY: the function has no preconditions and leaves what is in use alone.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The number behind `name`.
fn field(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_read_from_what_the_kernel_says() {
        let text = "MemTotal:         118244 kB\nMemFree:           61000 kB\n";
        assert_eq!(field(text, "MemTotal:"), 118_244);
        assert_eq!(field("", "MemTotal:"), 0);
        assert!(total_kib() > 16 << 10);
    }
}
