//! The system's allocator with a reserve.
//!
//! Rust ends the process with a signal where a block cannot be allocated, also in code that could report an error. Large blocks
//! (frames, planes, tables) are therefore allocated fallibly, and their item fails. Small blocks are everywhere. While memory is
//! missing they come from a reserve, so that the large block or the codec that took the rest can fail and return it. If the reserve
//! is used up too, the process ends with a sentence and the exit code of a failed job.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr,
    sync::atomic::{AtomicPtr, Ordering},
};

use crate::stdio;

/// The allocator of the binary.
#[derive(Debug)]
pub struct Allocator;

/// Bytes of the smallest block whose allocation may fail.
const LARGE: usize = 1 << 20;
/// Bytes of the reserve. It is a mapping without memory: it counts only towards the limit of addresses (`ulimit -v`).
const RESERVE: usize = 16 << 20;
/// The reserve; null: none, or given up.
static HELD: AtomicPtr<libc::c_void> = AtomicPtr::new(ptr::null_mut());

/// Takes the reserve, unless it is held. Without room for it, nothing happens.
pub fn keep_reserve() {
    if !HELD.load(Ordering::Acquire).is_null() {
        return;
    }
    // SAFETY: maps new addresses that nothing accesses.
    let new = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        libc::mmap(ptr::null_mut(), RESERVE, libc::PROT_NONE, flags, -1, 0)
    };
    if new == libc::MAP_FAILED {
        return;
    }
    if HELD.compare_exchange(ptr::null_mut(), new, Ordering::AcqRel, Ordering::Acquire).is_err() {
        // SAFETY: this thread has mapped it, and another one has been faster.
        unsafe { libc::munmap(new, RESERVE) };
    }
}

/// Whether there is room for the stack of a thread, which is smaller than the reserve.
pub fn has_room() -> bool {
    keep_reserve();
    let held = !HELD.load(Ordering::Acquire).is_null();
    give_up_reserve();
    held
}

fn give_up_reserve() {
    let held = HELD.swap(ptr::null_mut(), Ordering::AcqRel);
    if !held.is_null() {
        // SAFETY: `keep_reserve` has mapped it, and no other thread can get this address.
        unsafe { libc::munmap(held, RESERVE) };
    }
}

/// Tries again to allocate a block that the system refused. Returns null for a large one.
fn retry(size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
    if size >= LARGE {
        return ptr::null_mut();
    }
    give_up_reserve();
    let block = allocate();
    if block.is_null() {
        stdio::last_line(b"error: the memory is used up; free some memory or choose a smaller size\n");
        // SAFETY: ends the process without its cleanup, which would allocate.
        unsafe { libc::_exit(3) };
    }
    block
}

// SAFETY: every block comes from `System` and returns to it with the same layout.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: guaranteed by the caller.
        let allocate = || unsafe { System.alloc(layout) };
        let block = allocate();
        if block.is_null() { retry(layout.size(), allocate) } else { block }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: guaranteed by the caller.
        let allocate = || unsafe { System.alloc_zeroed(layout) };
        let block = allocate();
        if block.is_null() { retry(layout.size(), allocate) } else { block }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: guaranteed by the caller. A block that cannot grow stays valid.
        let allocate = || unsafe { System.realloc(block, layout, size) };
        let new = allocate();
        if new.is_null() { retry(size, allocate) } else { new }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: guaranteed by the caller.
        unsafe { System.dealloc(block, layout) };
    }
}
