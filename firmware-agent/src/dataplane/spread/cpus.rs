//! Processors that are there, and whether a device's packets are shared out to them already.

use std::fs;
use std::path::Path;

use crate::sys::rtnetlink::Device;

/// Numbers of the processors that run; none where the kernel does not say.
pub(super) fn online() -> Vec<u32> {
    fs::read_to_string("/sys/devices/system/cpu/online")
        .map_or_else(|_| Vec::new(), |text| list(&text))
}

/// The numbers in a list of the kernel, such as `0-3,6`; none when it is no such list.
fn list(text: &str) -> Vec<u32> {
    /// More than any kernel is built for.
    const MOST: u32 = 8192;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (last < MOST).then_some(first..=last)
    };
    let ranges: Option<Vec<_>> = text.trim().split(',').map(range).collect();
    ranges.unwrap_or_default().into_iter().flatten().collect()
}

/// Whether packet steering (RPS) is on for the device.
pub(super) fn steered(device: &Device) -> bool {
    // The files are those of the namespace in which sysfs was mounted: not necessarily ours.
    let dir = Path::new("/sys/class/net").join(&device.name);
    let ifindex = fs::read_to_string(dir.join("ifindex")).unwrap_or_default();
    if ifindex.trim().parse() != Ok(device.ifindex) {
        return false;
    }
    let queues = fs::read_dir(dir.join("queues")).into_iter().flatten().flatten();
    let mut masks =
        queues.filter_map(|queue| fs::read_to_string(queue.path().join("rps_cpus")).ok());
    masks.any(|mask| names_any(&mask))
}

/// Whether a mask of the kernel, such as `00000000,00000003`, names any processor.
fn names_any(mask: &str) -> bool {
    mask.chars().any(|digit| !matches!(digit, '0' | ',' | '\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_masks_are_read_as_the_kernel_writes_them() {
        assert_eq!(list("0\n"), [0]);
        assert_eq!(list("0-3,6,8-9\n"), [0, 1, 2, 3, 6, 8, 9]);
        for nonsense in ["", "\n", "0-", "x", "0-4000000000", "1,,2"] {
            assert_eq!(list(nonsense), [0_u32; 0], "{nonsense:?}");
        }
        assert!(!names_any("0\n") && !names_any("00000000,00000000\n") && !names_any(""));
        assert!(names_any("3\n") && names_any("00000001,00000000\n") && names_any("f"));
    }

    #[test]
    fn this_machine_has_processors() {
        assert!(!online().is_empty());
    }
}
