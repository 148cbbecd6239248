//! The hub's cache on disk, in the layout of Python's `huggingface_hub`, read without a network:
//! `models--owner--name/{blobs/<etag>, refs/<revision>, snapshots/<commit>/<path> → ../../blobs/<etag>}`.

use std::{
    ffi::CString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Result},
    files::read_text,
    progress::Progress,
};

/// The caches, and whether the network may be used.
#[derive(Clone)]
pub(super) struct HubAccess<'a> {
    /// The hub's cache.
    pub(super) cache: PathBuf,
    /// Crescendo's cache.
    pub(super) own: PathBuf,
    /// No network.
    pub(super) offline: bool,
    /// Receives the progress of downloads.
    pub(super) progress: &'a dyn Progress,
}

/// The first of these environment variables that is set and not empty.
fn variable(names: &[&str]) -> Option<PathBuf> {
    names.iter().find_map(|n| std::env::var_os(n).filter(|v| !v.is_empty())).and_then(expand)
}

/// Replaces a leading `~/` by the home folder, as Python does. `None`: it is unknown.
fn expand(path: std::ffi::OsString) -> Option<PathBuf> {
    let path = PathBuf::from(path);
    match path.strip_prefix("~") {
        Ok(rest) => Some(home()?.join(rest)),
        Err(_) => Some(path),
    }
}

/// `HOME`, else the home folder in the user database. `None`: neither is an absolute path.
fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

fn user_cache() -> Result<PathBuf> {
    let default = || home().map(|home| home.join(".cache"));
    // No shared folder such as /tmp: other users could place models there.
    variable(&["XDG_CACHE_HOME"]).or_else(default).ok_or_else(|| {
        Error::failed(
            "the home folder is unknown, so there is no folder for the cache; set HOME or XDG_CACHE_HOME to an absolute path",
        )
    })
}

/// The hub's cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `$HF_HOME/hub`, `~/.cache/huggingface/hub`.
///
/// # Errors
/// The home folder is unknown.
pub fn hub_cache() -> Result<PathBuf> {
    let named = variable(&["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"]);
    match named.or_else(|| variable(&["HF_HOME"]).map(|home| home.join("hub"))) {
        Some(cache) => Ok(cache),
        None => Ok(user_cache()?.join("huggingface/hub")),
    }
}

/// Crescendo's cache: `${XDG_CACHE_HOME:-~/.cache}/crescendo`.
///
/// # Errors
/// The home folder is unknown.
pub fn own_cache() -> Result<PathBuf> {
    Ok(user_cache()?.join("crescendo"))
}

/// The folder of a repository in the cache.
pub fn repo_folder(cache: &Path, repo: &str) -> PathBuf {
    cache.join(format!("models--{}", repo.replace('/', "--")))
}

/// The cached snapshot of `revision` (branch, tag or commit).
pub fn snapshot(cache: &Path, repo: &str, revision: &str) -> Option<PathBuf> {
    let folder = repo_folder(cache, repo);
    let is_commit = revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit());
    let commit = if is_commit {
        revision.to_owned()
    } else {
        read_text(&folder.join("refs").join(revision)).ok()?.trim().to_owned()
    };
    if commit.is_empty() || commit.contains(['/', '.']) {
        return None;
    }
    Some(folder.join("snapshots").join(commit)).filter(|s| s.is_dir())
}

/// Records that `revision` is `commit`. Called when all requested files are cached.
pub fn write_ref(cache: &Path, repo: &str, revision: &str, commit: &str) -> Result<()> {
    let path = repo_folder(cache, repo).join("refs").join(revision);
    let write = || {
        std::fs::create_dir_all(path.parent().unwrap_or(cache))?;
        std::fs::write(&path, commit)
    };
    write().map_err(|e| Error::io("writing", &path, &e))
}

/// Cached repositories and the bytes of their blobs, largest first.
pub fn usage(cache: &Path) -> Vec<(String, u64)> {
    let Ok(entries) = std::fs::read_dir(cache) else { return Vec::new() };
    let mut repos: Vec<(String, u64)> = entries
        .flatten()
        .filter_map(|e| {
            let repo = e.file_name().to_str()?.strip_prefix("models--")?.replacen("--", "/", 1);
            Some((repo, bytes_under(&e.path())))
        })
        .collect();
    repos.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    repos
}

/// Bytes of all regular files under a folder. Links are not followed.
pub fn bytes_under(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .flatten()
        .map(|e| match e.file_type() {
            Ok(t) if t.is_dir() => bytes_under(&e.path()),
            Ok(t) if t.is_file() => e.metadata().map_or(0, |m| m.len()),
            _ => 0,
        })
        .sum()
}

/// (free, total) bytes of the disk of `path`, which need not exist.
pub fn disk(path: &Path) -> Option<(u64, u64)> {
    let there = path.ancestors().find(|a| a.exists()).filter(|a| !a.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = CString::new(there.as_os_str().as_bytes()).ok()?;
    let mut info = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` ends in a zero byte and outlives the call. `info` is read only after a return of 0, which means that it is
    // written.
    let info = unsafe {
        if libc::statvfs(name.as_ptr(), info.as_mut_ptr()) != 0 {
            return None;
        }
        info.assume_init()
    };
    Some((info.f_bavail * info.f_frsize, info.f_blocks * info.f_frsize))
}

/// Fails if the disk of `folder` has less than `bytes` free.
pub fn check_space(folder: &Path, bytes: u64) -> Result<()> {
    match disk(folder) {
        Some((free, _)) if free < bytes => Err(Error::failed(format!(
            "{} needs {} more, but its disk has {} free; free some space, or set HF_HOME to a folder on a larger disk",
            folder.display(),
            gigabytes(bytes),
            gigabytes(free)
        ))),
        _ => Ok(()),
    }
}

/// `23.8 GB`, `167.6 MB`, `2 kB`.
pub fn gigabytes(bytes: u64) -> String {
    match bytes as f64 {
        b if b >= 1e9 => format!("{:.1} GB", b / 1e9),
        b if b >= 1e6 => format!("{:.1} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.0} kB", b / 1e3),
        b => format!("{b} bytes"),
    }
}
