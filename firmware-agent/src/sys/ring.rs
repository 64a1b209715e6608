//! A ring buffer that programs write and this process reads (`BPF_MAP_TYPE_RINGBUF`, kernel 5.8).
//!
//! How far it was read is kept in the map, so a reader goes on where the one before it ended, however
//! that ended. What programs find no room for is theirs to count.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use nix::errno::Errno;

use super::{bpf, memory};

/// Being written.
const BUSY: u32 = 1 << 31;
/// Not to be read.
const DISCARDED: u32 = 1 << 30;
/// Bytes before a record.
const HEADER: usize = 8;

/// The reader of a ring buffer; there must be one at a time. Ready to be read when there is a record.
#[derive(Debug)]
pub struct Ring {
    map: OwnedFd,
    /// How far it was read.
    consumer: Pages,
    /// How far it was written, and from the next page on what was written, twice in a row: so records
    /// never have to be put together.
    producer: Pages,
    page: usize,
    bytes: usize,
}

impl Ring {
    /// The reader of `map`.
    pub fn open(map: OwnedFd) -> io::Result<Self> {
        let (_, bytes) = bpf::map_size(map.as_fd())?;
        Self::of_size(map, bytes as usize)
    }

    fn of_size(map: OwnedFd, bytes: usize) -> io::Result<Self> {
        let page = memory::page() as usize;
        if !bytes.is_power_of_two() || bytes < page {
            return Err(contradiction("its size is not that of a ring"));
        }
        let consumer = Pages::new(&map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Pages::new(&map, page, page + 2 * bytes, libc::PROT_READ)?;
        Ok(Self { map, consumer, producer, page, bytes })
    }

    /// Gives the next record to `take`, and makes room of it; `false` when there is none.
    ///
    /// An error means that what is read here is not what programs wrote, as where a processor's cache
    /// keeps two copies of a page that has two addresses: then nothing here can be relied upon.
    pub fn next(&self, take: impl FnOnce(&[u8])) -> io::Result<bool> {
        loop {
            let at = self.consumer.position().load(Ordering::Relaxed);
            let waiting = self.producer.position().load(Ordering::Acquire).wrapping_sub(at);
            if waiting == 0 {
                return Ok(false);
            }
            if waiting > self.bytes || !at.is_multiple_of(HEADER) || waiting < HEADER {
                return Err(contradiction("more is read than was written"));
            }
            // Below the ring's size and a multiple of eight: what it points to, and as much again as
            // the ring has behind it, is mapped.
            let start = self.page + (at & (self.bytes - 1));
            let header = self.producer.header(start).load(Ordering::Acquire);
            if header & BUSY != 0 {
                return Ok(false);
            }
            let len = (header & !DISCARDED) as usize;
            let whole = (HEADER + len).next_multiple_of(HEADER);
            if whole > waiting {
                return Err(contradiction("a record is longer than what was written"));
            }
            let next = at.wrapping_add(whole);
            if header & DISCARDED == 0 {
                take(self.producer.bytes(start + HEADER, len));
                self.consumer.position().store(next, Ordering::Release);
                return Ok(true);
            }
            self.consumer.position().store(next, Ordering::Release);
        }
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

fn contradiction(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Pages of a map.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to the process, whichever of its threads reads them, and stay where they are
// until this value is dropped.
unsafe impl Send for Pages {}

impl Pages {
    fn new(map: &OwnedFd, offset: usize, len: usize, protection: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the kernel chooses the place, so nothing that is there is replaced.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                map.as_raw_fd(),
                offset,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(Errno::last().into());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| contradiction("mapped to nowhere"))?;
        Ok(Self { start, len })
    }

    /// The position at the beginning of the pages, a machine word.
    const fn position(&self) -> &AtomicUsize {
        // SAFETY: there is a whole page, it is aligned as one, and kernel and reader change the word
        // atomically.
        unsafe { self.start.cast().as_ref() }
    }

    /// The length and flags of the record at `start`, a multiple of eight inside the pages.
    fn header(&self, start: usize) -> &AtomicU32 {
        debug_assert!(start + HEADER <= self.len && start.is_multiple_of(HEADER), "{start}");
        // SAFETY: the caller says that it lies inside and is aligned; the kernel changes it atomically.
        unsafe { self.start.add(start).cast().as_ref() }
    }

    /// The record at `start`, which lies inside the pages and is no longer being written.
    fn bytes(&self, start: usize, len: usize) -> &[u8] {
        debug_assert!(start + len <= self.len, "{start} {len}");
        // SAFETY: the caller says that it lies inside; programs write there again only when the
        // position has gone past it.
        unsafe { slice::from_raw_parts(self.start.add(start).as_ptr(), len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: nobody else has these pages, and what borrows them ends before.
        let _unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt as _;

    use super::*;

    /// A file that looks like the pages of a ring.
    struct Sheet {
        file: File,
        page: u64,
    }

    impl Sheet {
        fn new(name: &str) -> (Self, Ring) {
            let path = std::env::temp_dir().join(format!("sluice-{}-{name}", std::process::id()));
            let mut options = File::options();
            let file = options.read(true).write(true).create_new(true).open(&path).unwrap();
            fs::remove_file(&path).unwrap();
            let page = u64::from(memory::page());
            file.set_len(page * 4).unwrap();
            let ring = Ring::of_size(file.try_clone().unwrap().into(), page as usize).unwrap();
            (Self { file, page }, ring)
        }

        fn read_up_to(&self) -> usize {
            let mut word = [0; size_of::<usize>()];
            self.file.read_exact_at(&mut word, 0).unwrap();
            usize::from_ne_bytes(word)
        }

        fn set(&self, read: usize, written: usize) {
            self.file.write_all_at(&read.to_ne_bytes(), 0).unwrap();
            self.file.write_all_at(&written.to_ne_bytes(), self.page).unwrap();
        }

        fn record(&self, at: u64, header: u32, bytes: &[u8]) {
            self.file.write_all_at(&header.to_ne_bytes(), 2 * self.page + at).unwrap();
            self.file.write_all_at(bytes, 2 * self.page + at + 8).unwrap();
        }
    }

    fn next(ring: &Ring) -> io::Result<Option<Vec<u8>>> {
        let mut taken = None;
        let is_there = ring.next(|record| taken = Some(record.to_vec()))?;
        assert_eq!(is_there, taken.is_some());
        Ok(taken)
    }

    #[test]
    fn records_are_read_once_in_order_and_only_when_they_are_whole() {
        let (sheet, ring) = Sheet::new("order");
        assert_eq!(next(&ring).unwrap(), None);
        sheet.record(0, 3, b"one");
        sheet.record(16, 5 | DISCARDED, b"never");
        sheet.record(32, 9, b"and three");
        sheet.record(56, 2 | BUSY, b"wr");
        sheet.set(0, 72);
        assert_eq!(next(&ring).unwrap().unwrap(), b"one");
        assert_eq!(sheet.read_up_to(), 16);
        assert_eq!(next(&ring).unwrap().unwrap(), b"and three");
        assert_eq!((next(&ring).unwrap(), sheet.read_up_to()), (None, 56));
        sheet.record(56, 2, b"wr");
        assert_eq!(next(&ring).unwrap().unwrap(), b"wr");
        assert_eq!((next(&ring).unwrap(), sheet.read_up_to()), (None, 72));
        // Where the ring begins anew, and where the word does.
        let page = sheet.page as usize;
        for start in [3 * page - 8, 0_usize.wrapping_sub(8)] {
            sheet.record(sheet.page - 8, 6, b"across");
            sheet.set(start, start.wrapping_add(16));
            assert_eq!(next(&ring).unwrap().unwrap(), b"across");
            assert_eq!(sheet.read_up_to(), start.wrapping_add(16));
        }
    }

    #[test]
    fn what_contradicts_itself_is_an_error_and_nothing_is_read() {
        let (sheet, ring) = Sheet::new("wrong");
        let page = sheet.page as usize;
        sheet.record(0, 3, b"one");
        for (read, written, header) in
            [(4, 24, 3), (16, 0, 3), (0, page + 8, 3), (0, 4, 3), (0, 16, 9), (0, 16, !BUSY)]
        {
            sheet.record(0, header, b"one");
            sheet.set(read, written);
            let error = next(&ring).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{read} {written} {header}");
            assert_eq!(sheet.read_up_to(), read);
        }
    }
}
