//! What this process holds, from `/proc/self/status`.

use std::fs;

/// Most bytes this process ever held in physical memory (VmHWM), mapped files included; 0 where `/proc` is missing.
pub fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// Bytes this process holds now that are not pages of files (RssAnon); 0 where `/proc` is missing.
pub fn anonymous_memory() -> u64 {
    status("RssAnon:")
}

/// Gives pages that were freed but kept by the allocator back to the system.
pub fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointers and locks each arena it walks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Makes every block of a megabyte or more a mapping of its own, which goes back to the system when it is freed. The allocator
/// would otherwise raise that size to 32 MB by and by, and keep what lies below it in a heap that only grows.
pub(super) fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes no pointers and locks what it changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Bytes of memory that can still be had without swapping, from /proc/meminfo; 4 GB where that cannot be read.
pub fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map_or(4 << 30, |kb| kb * 1024)
}

/// Bytes that networks' activations may take: `--memory-limit`, else half of what the machine has. Not what happens to be free: what is
/// cut into tiles decides about the last digits of a result, so the same call shall cut the same way every time, and as `plan` said.
pub fn memory_budget(limit: Option<u64>) -> u64 {
    limit.unwrap_or_else(|| total_memory() / 2)
}

/// Bytes of memory that this machine has, from /proc/meminfo, or that a control group leaves to this process; 8 GB where neither can
/// be read.
fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let machine = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).map(|kb| kb * 1024);
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|t| t.trim().parse::<u64>().ok());
    machine.into_iter().chain(group).min().unwrap_or(8 << 30)
}

#[cfg(test)]
mod tests {
    #[test]
    fn peak_and_anonymous_memory_are_seen() {
        let before = super::anonymous_memory();
        let block = vec![1_u8; 64 << 20];
        let held = super::anonymous_memory();
        assert!(held >= before + (60 << 20), "{before} → {held} with {} bytes more", block.len());
        assert!(super::peak_memory() >= held);
    }
}
