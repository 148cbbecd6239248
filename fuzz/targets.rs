//! The targets.

mod journals;
mod models;
mod pictures;
mod text;
mod times;
mod weights;

pub use journals::{chunk_journal, journal, packets};
pub use models::{graph, model};
pub use pictures::{animation, exif, picture};
pub use text::{config, prompts};
pub use times::timing;
pub use weights::{safetensors, torch_legacy, torch_zip};

use std::{
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// All targets by name, which is also that of the folder in `corpus/`.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("animation", animation),
    ("chunk_journal", chunk_journal),
    ("config", config),
    ("exif", exif),
    ("graph", graph),
    ("journal", journal),
    ("model", model),
    ("packets", packets),
    ("picture", picture),
    ("prompts", prompts),
    ("safetensors", safetensors),
    ("timing", timing),
    ("torch_legacy", torch_legacy),
    ("torch_zip", torch_zip),
];

/// A folder of this process, in memory where the system has such a file system.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let memory = Path::new("/dev/shm");
        let parent = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = parent.join(format!("crescendo-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        // SAFETY: the function has the signature that the C library expects.
        unsafe { libc::atexit(remove_scratch) };
        folder
    })
}

extern "C" fn remove_scratch() {
    let _ = std::fs::remove_dir_all(scratch());
}

/// A file of the package.
fn packaged(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
