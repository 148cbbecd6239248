//! Memory of this process and of the machine.
//!
//! `sysinfo` reads the machine's memory and the limits of the process's control group: versions 1 and 2, with the limits of all
//! parent groups (systemd slices). It does not provide the peak memory (`VmHWM`) of a process, which is read from
//! `/proc/self/status`.

use std::{fs, sync::OnceLock};

use sysinfo::{MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, System};

/// Peak physical memory of this process in bytes (VmHWM), including mapped files; 0 without `/proc`.
pub fn peak_memory() -> u64 {
    status("VmHWM:")
}

/// Physical memory of this process in bytes (VmRSS), including mapped files; 0 without `/proc`.
pub fn resident_memory() -> u64 {
    status("VmRSS:")
}

/// A row of `/proc/self/status` in bytes.
fn status(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1024)
}

/// Returns freed pages of the allocator to the system.
pub(super) fn return_free_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` takes no pointers and locks each arena it walks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Allocates blocks of 1 MB and more as separate mappings, which return to the system when they are freed. By default the
/// allocator raises this threshold up to 32 MB, and smaller blocks stay in a heap that only grows.
pub(super) fn map_large_blocks() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `mallopt` takes no pointers and locks what it changes.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Makes all threads share one heap where the addresses of the process are limited (`ulimit -v`). By default every thread reserves
/// 64 MB of them. Call it before threads start.
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    if address_limit().is_some() {
        // SAFETY: `mallopt` takes no pointers and locks what it changes.
        unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    }
}

/// Bytes of memory available without swapping (MemAvailable), within the limit of the process's address space (`ulimit -v`); 4 GB
/// if unknown.
pub fn available_memory() -> u64 {
    let machine = match ram().available_memory() {
        0 => 4 << 30,
        bytes => bytes,
    };
    machine.min(free_addresses())
}

/// Bytes that the process can still map (`ulimit -v`).
fn free_addresses() -> u64 {
    let Some(limit) = address_limit() else { return u64::MAX };
    let pages = fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = pages.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0);
    // SAFETY: reads a constant of the system.
    let size = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    limit.saturating_sub(pages * size)
}

/// The limit of the process's address space in bytes (`ulimit -v`), if there is one.
fn address_limit() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: writes the limit.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) } == 0;
    (known && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Bytes that a run may take: `--memory-limit`, else half of the memory of the machine or control group. It does not depend on the
/// memory that is currently free: tiling changes the last digits of a result, so that the same call must use the same tiles every
/// time, as `plan` predicts.
pub fn memory_budget(limit: Option<u64>) -> u64 {
    limit.unwrap_or_else(|| total_memory() / 2)
}

/// Bytes of memory of the machine, of the control group or of the process (`ulimit -v`), whichever is least; 8 GB if unknown.
fn total_memory() -> u64 {
    static TOTAL: OnceLock<u64> = OnceLock::new();
    *TOTAL.get_or_init(|| {
        let mut system = ram();
        let machine = Some(system.total_memory()).filter(|bytes| *bytes > 0);
        let own = sysinfo::get_current_pid().ok();
        let refresh = ProcessRefreshKind::nothing().without_tasks();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(own.as_slice()), false, refresh);
        let own = own.and_then(|pid| system.process(pid));
        // Within a container, the process's group may lie outside of the visible tree, whose root is then the container's group.
        let group = own.and_then(|process| process.cgroup_limits()).or_else(|| system.cgroup_limits());
        let group = group.map(|limits| limits.total_memory);
        machine.into_iter().chain(group).chain(address_limit()).min().unwrap_or(8 << 30)
    })
}

fn ram() -> System {
    let mut system = System::new();
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    system
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_is_measured() {
        let block = vec![1_u8; 64 << 20];
        assert!(peak_memory() >= block.len() as u64);
        drop(block);
        assert!(peak_memory() >= 64 << 20);
    }

    #[test]
    fn the_budget_is_half_of_the_memory() {
        assert_eq!(memory_budget(Some(5)), 5);
        assert_eq!(memory_budget(None), total_memory() / 2);
        let machine = ram().total_memory();
        assert!((1..=machine).contains(&total_memory()), "{} of {machine}", total_memory());
        assert!((1..=machine).contains(&resident_memory()), "{} of {machine}", resident_memory());
    }
}
