//! Runs every fuzz target on its corpus, `fuzz/corpus`, and on mutations of it that are the same on every run. No input causes a
//! panic or a large allocation.
#![allow(clippy::unwrap_used)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use crescendo_fuzz::{Mutations, TARGETS};

/// Counts allocated bytes, to detect small files that cause large allocations.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is forwarded unchanged to the system allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(LIVE.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Most MiB that one input may take, besides what the process holds.
const MOST: usize = 96;

/// One target at a time: targets use one folder for their files, and the allocations are counted.
static TURN: Mutex<()> = Mutex::new(());

/// The corpus of a target, sorted by name.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Runs one input. Returns the failure.
fn failure(target: fn(&[u8]), bytes: &[u8]) -> Option<String> {
    let before = LIVE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let panic = catch_unwind(AssertUnwindSafe(|| target(bytes))).err();
    let taken = (PEAK.load(Relaxed) - before) >> 20;
    let text = |panic: Box<dyn std::any::Any + Send>| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("a panic", |text| text).to_owned(),
    };
    panic.map(text).or((taken > MOST).then(|| format!("{taken} MiB are allocated")))
}

/// Runs a target on its corpus and on `rounds` mutations. An input that fails is kept in the folder of cargo's temporary files.
fn check(name: &str, rounds: usize) {
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).unwrap();
    let (paths, seeds): (Vec<_>, Vec<_>) = corpus(name).into_iter().unzip();
    let mut failures = Vec::new();
    for (path, bytes) in paths.iter().zip(&seeds) {
        failures.extend(failure(*target, bytes).map(|e| format!("{}: {e}", path.display())));
    }
    for (round, bytes) in Mutations::new(&seeds, 20).take(rounds).enumerate() {
        if failures.len() < 10
            && let Some(e) = failure(*target, &bytes)
        {
            let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{round}"));
            fs::write(&kept, bytes).unwrap();
            failures.push(format!("round {round} ({}): {e}", kept.display()));
        }
    }
    drop(turn);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Targets and the number of mutations, as many as a few seconds allow.
macro_rules! targets {
    ($($name:ident $rounds:literal)*) => {
        $(#[test]
        fn $name() {
            check(stringify!($name), $rounds);
        })*

        #[test]
        fn every_target_is_tested() {
            let tested = [$(stringify!($name)),*];
            let missing: Vec<_> = TARGETS.iter().map(|(name, _)| *name).filter(|name| !tested.contains(name)).collect();
            assert!(missing.is_empty(), "{missing:?}");
        }
    };
}

targets! {
    animation 6000
    chunk_journal 4000
    config 6000
    exif 3000
    graph 300
    journal 3000
    model 300
    packets 4000
    picture 2000
    prompts 1000
    safetensors 6000
    timing 6000
    torch_legacy 6000
    torch_zip 6000
}
