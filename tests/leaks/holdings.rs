//! What the process holds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Ends a wait for what will never come; nothing here is measured against it.
const PATIENCE: Duration = Duration::from_secs(10);

struct Counting;

static BLOCKS: AtomicIsize = AtomicIsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(blocks: isize, bytes: usize, back: usize) {
    BLOCKS.fetch_add(blocks, Relaxed);
    BYTES.fetch_add(bytes.cast_signed() - back.cast_signed(), Relaxed);
}

// SAFETY: all is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-1, 0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(0, size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// To the last byte.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    blocks: isize,
    bytes: isize,
}

impl Heap {
    pub fn now() -> Self {
        Self { blocks: BLOCKS.load(Relaxed), bytes: BYTES.load(Relaxed) }
    }

    /// Waits until no more is held than was: what other threads have yet to drop takes its time.
    pub fn wait_until_back(self) -> Result<(), String> {
        wait(|| {
            let now = Self::now();
            let back = now.blocks <= self.blocks && now.bytes <= self.bytes;
            back.then_some(()).ok_or_else(|| format!("{self:?} became {now:?}"))
        })
    }
}

/// What the system gave.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    threads: usize,
    files: usize,
    resident_kib: usize,
}

impl Process {
    pub fn now() -> Self {
        let count = |folder| std::fs::read_dir(folder).unwrap().count();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let resident_kib = resident.trim().trim_end_matches(" kB").parse().unwrap();
        Self { threads: count("/proc/self/task"), files: count("/proc/self/fd"), resident_kib }
    }

    /// Waits until there are no more threads and files than there were, and no more memory is taken than so much.
    pub fn wait_until_back(self, most_kib: Option<usize>) -> Result<(), String> {
        wait(|| {
            let now = Self::now();
            let back = now.threads <= self.threads
                && now.files <= self.files
                && most_kib.is_none_or(|most| now.resident_kib <= self.resident_kib + most);
            back.then_some(()).ok_or_else(|| format!("{self:?} became {now:?}"))
        })
    }
}

fn wait(done: impl Fn() -> Result<(), String>) -> Result<(), String> {
    let begun = Instant::now();
    loop {
        match done() {
            Err(_) if begun.elapsed() < PATIENCE => std::thread::yield_now(),
            outcome => return outcome,
        }
    }
}
