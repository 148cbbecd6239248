//! The number of cores that this process may use.
//!
//! `sysinfo` counts the machine's physical cores; it does not count those in this process's CPU affinity.

use std::{collections::HashSet, error::Error as _, fs, thread};

use crate::error::{Error, Result};

/// Physical cores that CPU affinity and cgroup quota allow. Hyper-threads of one core count once: matrix products do not gain
/// from the second.
pub fn threads_available() -> usize {
    let allowed = thread::available_parallelism().map_or(1, usize::from);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
    let cores: HashSet<(String, String)> = cpu_list(list).into_iter().filter_map(core_of).collect();
    if cores.is_empty() { allowed } else { allowed.min(cores.len()) }
}

/// Starts the threads that convert and resample pictures: `--threads`, at most one per core.
///
/// # Errors
/// The system does not start them.
pub fn start_workers(threads: Option<usize>) -> Result<()> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(cores).min(cores));
    match pool.build_global() {
        // Without a cause, the threads have been started before.
        Err(e) => e.source().and_then(|cause| cause.downcast_ref()).map_or(Ok(()), |cause| Err(Error::thread(cause))),
        Ok(()) => Ok(()),
    }
}

/// Package and core of a logical CPU.
fn core_of(cpu: usize) -> Option<(String, String)> {
    let read = |what| fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{what}")).ok();
    Some((read("physical_package_id")?, read("core_id")?))
}

/// `0-3,8` → 0 1 2 3 8. Skips anything that is not a range.
fn cpu_list(list: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_cpus() {
        for (list, want) in [("0-3,8", vec![0, 1, 2, 3, 8]), (" 5\n", vec![5]), ("", vec![]), ("x,2", vec![2])] {
            assert_eq!(cpu_list(list), want, "{list:?}");
        }
        assert!(threads_available() >= 1);
    }
}
