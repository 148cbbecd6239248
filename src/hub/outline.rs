//! Models for `plan`, which reads configs and the headers of weight files, and no weights.
//!
//! Weight files that are not cached are represented by sparse files of the same length that begin with the same header, fetched by
//! range requests. They are in Crescendo's cache, `outlines/owner--name/COMMIT`, beside links to the cached files, and never in the
//! hub's cache, so that no run takes them for weights.
//!
//! Of the file of a network that is not cached, only its size is asked.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    StatusCode,
    blocking::Client,
    header::{AUTHORIZATION, RANGE},
};

use super::{
    cache::{self, HubAccess},
    files::{self, Need, RepoFile},
    repo::{Request, Session, client, complete},
};
use crate::{
    catalog::Entry,
    error::{Error, Result},
    progress,
};

/// A model without its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// A folder in diffusers layout, or the file of a network, which does not exist if it is not cached.
    pub path: PathBuf,
    /// Whether there are weights or their headers. Without them, a folder has configs only.
    pub has_headers: bool,
    /// Bytes that a run downloads first; `None`: unknown.
    pub download: Option<u64>,
}

impl Outline {
    /// A model with all of its weights.
    pub(super) fn cached(path: PathBuf) -> Self {
        Self { path, has_headers: true, download: Some(0) }
    }

    /// A model of which nothing but the size is known.
    pub(super) fn absent(path: PathBuf, download: Option<u64>) -> Self {
        Self { path, has_headers: false, download }
    }
}

/// Bytes of the first request. Most headers are shorter.
const FIRST: u64 = 1 << 18;
/// The longest header that the format allows.
const MAX_HEADER: u64 = 100_000_000;

impl HubAccess<'_> {
    /// A model's outline: from the caches, else from the hub.
    pub(super) fn outline(&self, request: &Request) -> Result<Outline> {
        if let Some(folder) = self.cached_request(request, Need::Model)? {
            return Ok(Outline::cached(folder));
        }
        if let Some(snapshot) = self.cached_request(request, Need::Configs)? {
            let folder = snapshot.file_name().map(|commit| self.outlines(request.repo).join(commit));
            if let Some(folder) = folder.filter(|folder| files::missing(folder, true).is_ok_and(|m| m.is_empty())) {
                let download = Some(missing_bytes(&folder, &snapshot, Path::new("")));
                return Ok(Outline { path: folder, has_headers: true, download });
            }
            if self.offline {
                return Ok(Outline::absent(snapshot, request.entry.and_then(Entry::bytes)));
            }
        }
        if self.offline {
            return Err(self.offline_error(request, Need::Configs));
        }
        self.fetch_outline(request)
    }

    /// The file of a network: from the cache, else its place there. Its size is that of the hub or, without a network, that of the
    /// catalogue.
    pub(super) fn file_outline(&self, request: &Request) -> Result<Outline> {
        if let Some(path) = self.cached_request(request, Need::File)? {
            return Ok(Outline::cached(path));
        }
        if !self.offline {
            let client = client(&self.cache)?;
            let session = Session::new(self, &client, request)?;
            let file = session.network()?;
            let path = session.snapshot().join(&file.path);
            let cached = complete(&path, file.size);
            return Ok(if cached { Outline::cached(path) } else { Outline::absent(path, Some(file.size)) });
        }
        let (Some(entry), Some(file)) = (request.entry, request.file) else {
            return Err(self.offline_error(request, Need::File));
        };
        let snapshots = cache::repo_folder(&self.cache, request.repo).join("snapshots");
        Ok(Outline::absent(snapshots.join(request.revision).join(file), entry.bytes()))
    }

    /// The outlines of a repository.
    pub(super) fn outlines(&self, repo: &str) -> PathBuf {
        self.own.join("outlines").join(repo.replace('/', "--"))
    }

    /// Downloads configs and headers.
    fn fetch_outline(&self, request: &Request) -> Result<Outline> {
        let client = client(&self.cache)?;
        let session = Session::new(self, &client, request)?;
        session.fetch_all(&session.select(false)?)?;
        session.record()?;
        let (snapshot, parent) = (session.snapshot(), self.outlines(request.repo));
        let folder = parent.join(&session.commit);
        fs::create_dir_all(&parent).map_err(|e| Error::io("making", &parent, &e))?;
        let temporary = tempfile::tempdir_in(&parent).map_err(|e| Error::io("making a folder in", &parent, &e))?;
        let mut download = 0;
        for file in session.select(true)? {
            progress::check()?;
            let (cached, target) = (snapshot.join(&file.path), temporary.path().join(&file.path));
            let made = |e: std::io::Error| Error::io("making", &target, &e);
            fs::create_dir_all(target.parent().unwrap_or(&folder)).map_err(made)?;
            if complete(&cached, file.size) {
                symlink(cached, &target).map_err(made)?;
                continue;
            }
            download += file.size;
            let header = header(&session, &file)?;
            let mut sparse = File::create(&target).map_err(made)?;
            sparse.write_all(&header).and_then(|()| sparse.set_len(file.size)).map_err(made)?;
        }
        // An outline of an earlier run is incomplete, or another process has just made the same one.
        let _ = fs::remove_dir_all(&folder);
        if let Err(e) = fs::rename(temporary.path(), &folder)
            && !folder.is_dir()
        {
            return Err(Error::io("making", &folder, &e));
        }
        Ok(Outline { path: folder, has_headers: true, download: Some(download) })
    }
}

/// Bytes of the sparse files of an outline that the snapshot still lacks.
fn missing_bytes(outline: &Path, snapshot: &Path, inside: &Path) -> u64 {
    let entries = fs::read_dir(outline.join(inside)).into_iter().flatten().flatten();
    let bytes = |entry: fs::DirEntry| {
        let name = inside.join(entry.file_name());
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => missing_bytes(outline, snapshot, &name),
            Ok(meta) if meta.is_file() && !complete(&snapshot.join(&name), meta.len()) => meta.len(),
            _ => 0,
        }
    };
    entries.map(bytes).sum()
}

/// The header of a safetensors file, with the 8 bytes of its length.
fn header(session: &Session, file: &RepoFile) -> Result<Vec<u8>> {
    let mut bytes = range(session, file, 0..FIRST.min(file.size))?;
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    let Some(end) = length.filter(|&n| n <= MAX_HEADER).map(|n| n + 8).filter(|&end| end <= file.size) else {
        let (name, repo) = (&file.path, session.request.repo);
        return Err(Error::failed(format!("{name} of {repo} does not begin with a safetensors header")));
    };
    if end > bytes.len() as u64 {
        bytes.extend(range(session, file, bytes.len() as u64..end)?);
    }
    bytes.truncate(end as usize);
    Ok(bytes)
}

/// A part of a file of the hub.
fn range(session: &Session, file: &RepoFile, part: std::ops::Range<u64>) -> Result<Vec<u8>> {
    let (endpoint, repo) = (session.endpoint.trim_end_matches('/'), session.request.repo);
    let what = format!("{} of {repo}", file.path);
    let failed = |e: &dyn std::fmt::Display| {
        Error::failed(format!("{endpoint} cannot be reached for {what} ({e}); check the network or HF_ENDPOINT"))
    };
    let agent = concat!("crescendo/", env!("CARGO_PKG_VERSION"));
    let client = Client::builder().user_agent(agent).connect_timeout(Duration::from_secs(30)).build();
    let url = format!("{endpoint}/{repo}/resolve/{}/{}", session.commit, file.path);
    let mut request = client.map_err(|e| failed(&e))?.get(url);
    request = request.header(RANGE, format!("bytes={}-{}", part.start, part.end - 1));
    if let Some(token) = token() {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let response = request.send().map_err(|e| failed(&e.without_url()))?;
    if response.status() != StatusCode::PARTIAL_CONTENT {
        let status = response.status();
        return Err(Error::failed(format!("{endpoint} returned {status} for a part of {what}; try again later")));
    }
    let (wanted, mut bytes) = (part.end - part.start, Vec::new());
    response.take(wanted).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 != wanted {
        let got = bytes.len();
        return Err(Error::failed(format!("the header of {what} was truncated: expected {wanted} bytes, got {got}")));
    }
    Ok(bytes)
}

/// The hub's token: `HF_TOKEN`, else the file that Python's `hf auth login` writes.
fn token() -> Option<String> {
    let typed = std::env::var("HF_TOKEN").ok();
    let file = || std::env::var_os("HF_TOKEN_PATH").map_or_else(|| hf_hub::hf_home().join("token"), PathBuf::from);
    let token = typed.filter(|t| !t.is_empty()).or_else(|| fs::read_to_string(file()).ok())?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}
