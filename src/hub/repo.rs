//! Repositories of the hub: from the cache if it has all files, else with `hf-hub`.

use std::{
    path::{Path, PathBuf},
    sync::mpsc,
    time::Duration,
};

use hf_hub::{
    HFClient, HFClientSync, HFError, HFRepositorySync, RepoTypeModel,
    progress::{DownloadEvent, ProgressEvent, ProgressHandler},
    repository::RepoTreeEntry,
};

use super::{
    cache::{self, HubAccess},
    files::{self, Need, RepoFile},
};
use crate::{
    catalog::Entry,
    error::{Error, Result},
    files::read_text,
    progress::{self, Task, Unit},
};

/// A request for a repository or one of its files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// `owner/name`.
    pub repo: &'a str,
    /// Branch, tag or commit.
    pub revision: &'a str,
    /// One file of it.
    pub file: Option<&'a str>,
    /// The catalogue's entry, if it has one.
    pub entry: Option<&'a Entry>,
}

impl HubAccess<'_> {
    /// The path, if the cache has all requested files.
    pub(super) fn cached_request(&self, request: &Request, need: Need) -> Result<Option<PathBuf>> {
        let Some(snapshot) = cache::snapshot(&self.cache, request.repo, request.revision) else { return Ok(None) };
        if let Some(file) = request.file {
            return Ok(Some(snapshot.join(file)).filter(|path| path.is_file()));
        }
        let layout = snapshot.join("model_index.json").is_file();
        match need {
            Need::Model | Need::Configs => {
                let missing = files::missing(&snapshot, need == Need::Model)?;
                Ok(missing.is_empty().then_some(snapshot))
            }
            Need::Any if layout => Ok(files::missing(&snapshot, true)?.is_empty().then_some(snapshot)),
            // Only the hub knows whether there are several files. Offline, the only cached file is taken.
            Need::Any | Need::File if self.offline => {
                let names = names_in(&snapshot);
                let name = files::single(names.iter().map(String::as_str), request.repo)?;
                Ok(Some(snapshot.join(name)))
            }
            Need::Any | Need::File => Ok(None),
        }
    }

    pub(super) fn offline_error(&self, request: &Request, need: Need) -> Error {
        let snapshot = cache::snapshot(&self.cache, request.repo, request.revision);
        let missing = match (request.file, &snapshot) {
            (Some(file), _) => vec![file.to_owned()],
            (None, Some(folder)) => files::missing(folder, need != Need::Configs).unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let what = match missing.as_slice() {
            [] => "nothing of it is cached".to_owned(),
            all if all.len() > 6 => format!("{} and {} more files are missing", all[..6].join(", "), all.len() - 6),
            all => format!("{} missing", all.join(", ")),
        };
        let size = request.entry.and_then(Entry::bytes).map(|b| format!(" ({} in all)", cache::gigabytes(b)));
        Error::failed(format!(
            "{} is not complete in {}: {what}{}; run once without --offline and HF_HUB_OFFLINE to download it",
            request.repo,
            self.cache.display(),
            size.unwrap_or_default()
        ))
    }

    /// Downloads requested files that are not cached, then records the revision.
    pub(super) fn download(&self, request: &Request, need: Need) -> Result<PathBuf> {
        let client = client(&self.cache)?;
        let session = Session::new(self, &client, request)?;
        let layout = session.tree.iter().any(|f| f.path == "model_index.json");
        let (wanted, file) = match need {
            _ if request.file.is_some() || need == Need::File || (need == Need::Any && !layout) => {
                let file = session.network()?;
                (vec![file.clone()], Some(file.path))
            }
            _ => (session.select(need != Need::Configs)?, None),
        };
        session.fetch_all(&wanted)?;
        session.record()?;
        let snapshot = session.snapshot();
        Ok(file.map_or_else(|| snapshot.clone(), |file| snapshot.join(file)))
    }
}

/// A client of the hub with a cache folder.
pub(super) fn client(cache: &Path) -> Result<HFClientSync> {
    HFClient::builder()
        .cache_dir(cache)
        .user_agent(concat!("crescendo/", env!("CARGO_PKG_VERSION")))
        .build_sync()
        .map_err(|e| Error::failed(format!("HF_ENDPOINT: {e}")))
}

/// The download of one commit of a repository.
pub(super) struct Session<'a> {
    access: &'a HubAccess<'a>,
    pub(super) request: &'a Request<'a>,
    api: HFRepositorySync<RepoTypeModel>,
    pub(super) endpoint: String,
    pub(super) commit: String,
    tree: Vec<RepoFile>,
}

impl<'a> Session<'a> {
    pub(super) fn new(access: &'a HubAccess<'a>, client: &HFClientSync, request: &'a Request<'a>) -> Result<Self> {
        let (owner, name) = hf_hub::split_id(request.repo);
        let api = client.model(owner, name);
        let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| "https://huggingface.co".into());
        let mut session = Self { access, request, api, endpoint, commit: String::new(), tree: Vec::new() };
        let info = session.api.info().revision(request.revision).send().map_err(|e| session.sentence(e, None))?;
        session.commit = info.sha.ok_or_else(|| {
            Error::failed(format!("{} gave no commit for {} of {}", session.endpoint, request.revision, request.repo))
        })?;
        let tree = session.api.list_tree().revision(&*session.commit).recursive(true).send();
        session.tree = tree
            .map_err(|e| session.sentence(e, None))?
            .into_iter()
            .filter_map(|entry| match entry {
                RepoTreeEntry::File { path, size, .. } => Some(RepoFile { path, size }),
                RepoTreeEntry::Directory { .. } => None,
            })
            .collect();
        Ok(session)
    }

    /// Records that the requested revision is this commit.
    pub(super) fn record(&self) -> Result<()> {
        let Request { repo, revision, .. } = *self.request;
        if revision == self.commit {
            return Ok(());
        }
        cache::write_ref(&self.access.cache, repo, revision, &self.commit)
    }

    pub(super) fn snapshot(&self) -> PathBuf {
        cache::repo_folder(&self.access.cache, self.request.repo).join("snapshots").join(&self.commit)
    }

    /// The requested file, else the only network.
    pub(super) fn network(&self) -> Result<RepoFile> {
        let names = self.tree.iter().map(|f| f.path.as_str());
        let file = self.request.file.map_or_else(|| files::single(names, self.request.repo), Ok)?;
        self.entry(file)
    }

    fn entry(&self, file: &str) -> Result<RepoFile> {
        self.tree.iter().find(|f| f.path == file).cloned().ok_or_else(|| {
            let near = crate::catalog::nearest(file, self.tree.iter().map(|f| f.path.as_str()));
            let hint = near.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
            Error::failed(format!("{} has no file {file} at {}{hint}", self.request.repo, self.request.revision))
        })
    }

    /// The files of a model in diffusers layout. Downloads `model_index.json`.
    pub(super) fn select(&self, weights: bool) -> Result<Vec<RepoFile>> {
        let index = self.tree.iter().find(|f| f.path == "model_index.json").ok_or_else(|| {
            Error::failed(format!(
                "{} has no model_index.json, so it is not a model in diffusers layout",
                self.request.repo
            ))
        })?;
        let path = self.fetch(index)?;
        let text = read_text(&path).map_err(|e| Error::io("reading", &path, &e))?;
        let components = files::components(&text).map_err(|e| e.at(self.request.repo))?;
        files::select(&self.tree, &components, weights).map_err(|e| e.at(self.request.repo))
    }

    pub(super) fn fetch_all(&self, wanted: &[RepoFile]) -> Result<()> {
        let snapshot = self.snapshot();
        let missing: Vec<&RepoFile> = wanted.iter().filter(|f| !complete(&snapshot.join(&f.path), f.size)).collect();
        let bytes: u64 = missing.iter().map(|f| f.size).sum();
        cache::check_space(&self.access.cache, bytes)?;
        let licence = self.request.entry.map(|entry| format!(", licence {}", entry.licence));
        if bytes > 1 << 20 || (licence.is_some() && !missing.is_empty()) {
            let (size, repo) = (cache::gigabytes(bytes), self.request.repo);
            let files = if missing.len() == 1 { missing[0].path.clone() } else { format!("{} files", missing.len()) };
            tracing::info!("downloading {files} of {repo}, {size}{}", licence.unwrap_or_default());
        }
        missing.into_iter().try_for_each(|file| self.fetch(file).map(drop))
    }

    /// Downloads one file on another thread, so that an interrupt need not wait for it.
    fn fetch(&self, file: &RepoFile) -> Result<PathBuf> {
        let target = self.snapshot().join(&file.path);
        if complete(&target, file.size) {
            return Ok(target);
        }
        let mut task = Task::new(self.access.progress, file.path.as_str(), Some(file.size), Unit::Bytes);
        let (sender, events) = mpsc::channel();
        let (api, name, commit, done) = (self.api.clone(), file.path.clone(), self.commit.clone(), sender.clone());
        std::thread::spawn(move || {
            let result = api.download_file().filename(name).revision(commit).progress(Bytes(sender)).send();
            // After an interrupt the receiver is gone.
            let _ = done.send(Event::Ended(Box::new(result)));
        });
        let mut seen = 0;
        let result = loop {
            match events.recv_timeout(Duration::from_millis(100)) {
                Ok(Event::Bytes(now)) => {
                    task.step(now.saturating_sub(seen))?;
                    seen = seen.max(now);
                }
                Ok(Event::Ended(result)) => break *result,
                Err(mpsc::RecvTimeoutError::Timeout) => progress::check()?,
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    return Err(Error::failed(format!("the download of {} ended without a result", file.path)));
                }
            }
        };
        let path = result.map_err(|e| self.sentence(e, Some(&file.path)))?;
        self.check_length(&path, file)?;
        Ok(path)
    }

    /// Removes a file of the wrong length from the cache, so that it is never used.
    fn check_length(&self, path: &Path, file: &RepoFile) -> Result<()> {
        let length = path.metadata().map_err(|e| Error::io("reading", path, &e))?.len();
        if length == file.size {
            return Ok(());
        }
        if let Ok(blob) = path.canonicalize() {
            // Best effort: the error below is returned in any case, and the next run checks the length again.
            let _ = std::fs::remove_file(blob);
        }
        let _ = std::fs::remove_file(path);
        Err(Error::failed(format!(
            "{} of {} was truncated: expected {} bytes, got {length}; run again to download it",
            file.path, self.request.repo, file.size
        )))
    }

    /// The error as one sentence: what failed, and what to do.
    fn sentence(&self, error: HFError, file: Option<&str>) -> Error {
        let (repo, endpoint) = (self.request.repo, self.endpoint.trim_end_matches('/'));
        let what = file.map_or_else(|| repo.to_owned(), |f| format!("{f} of {repo}"));
        let gated = format!(
            "{what} may not be downloaded: accept the licence at {endpoint}/{repo}, then set HF_TOKEN to a token of the account that did"
        );
        Error::failed(match &error {
            HFError::AuthRequired { context } | HFError::Forbidden { context }
                if file.is_none() && context.error_code.as_deref() != Some("GatedRepo") =>
            {
                format!("{endpoint} does not show {repo}: it does not exist, or it is private and needs HF_TOKEN")
            }
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => gated,
            HFError::RevisionNotFound { revision, context, .. }
                if context.as_ref().and_then(|c| c.error_code.as_deref()) == Some("RevisionNotFound") =>
            {
                format!("{repo} has no revision {revision}")
            }
            HFError::RepoNotFound { .. } | HFError::RevisionNotFound { .. } => {
                format!("{endpoint} has no repository {repo}; check its name")
            }
            HFError::EntryNotFound { path, .. } => format!("{repo} has no file {path}"),
            HFError::RateLimited { .. } => {
                format!("{endpoint} limits the rate of downloads of {what}; try again later")
            }
            HFError::Http { context } if context.status.as_u16() == 404 => {
                format!("{endpoint} has no {what}; check its name")
            }
            HFError::Http { context } => format!("{endpoint} returned {} for {what}; try again later", context.status),
            HFError::Request { source, .. } if source.is_body() || source.is_decode() => {
                format!("the download of {what} was interrupted; run again, complete files are kept")
            }
            HFError::Request { source, .. } => format!(
                "{endpoint} cannot be reached for {what} ({}); check the network or HF_ENDPOINT, or use a local folder",
                root_cause(source)
            ),
            HFError::Io(e) => format!("{what} cannot be stored in {}: {e}", self.access.cache.display()),
            HFError::CacheLockTimeout { path } => {
                format!("another program is downloading {what} (lock {}); wait for it", path.display())
            }
            other => format!("{what} cannot be downloaded: {other}"),
        })
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Whether a file has been downloaded completely.
pub(super) fn complete(path: &Path, size: u64) -> bool {
    path.metadata().is_ok_and(|m| m.is_file() && m.len() == size)
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.filter(|e| e.path().is_file()).filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort();
    names
}

enum Event {
    /// The number of bytes so far.
    Bytes(u64),
    /// The download ended.
    Ended(Box<hf_hub::HFResult<PathBuf>>),
}

/// Sends the progress of a download to the waiting thread.
struct Bytes(mpsc::Sender<Event>);

impl ProgressHandler for Bytes {
    fn on_progress(&self, event: &ProgressEvent) {
        let done = match event {
            ProgressEvent::Download(DownloadEvent::Progress { files }) => files.iter().map(|f| f.bytes_completed).max(),
            ProgressEvent::Download(DownloadEvent::AggregateProgress { bytes_completed, .. }) => Some(*bytes_completed),
            _ => None,
        };
        if let Some(done) = done {
            let _ = self.0.send(Event::Bytes(done));
        }
    }
}
