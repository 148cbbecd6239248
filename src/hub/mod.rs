//! Resolves the name of a model to a local file or folder: a path, a short name of the catalogue, a hub repository, `repo:file`, or
//! a URL.
//!
//! Files of repositories are in the cache of Python's `huggingface_hub` (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT` and
//! `HF_HUB_OFFLINE` apply). Files of URLs are in `${XDG_CACHE_HOME:-~/.cache}/crescendo/urls`. A model that is cached completely
//! needs no network. `plan` reads the headers of weights only ([`Hub::outline`]).

pub mod cache;
mod files;
mod outline;
mod repo;
mod url;

use std::path::{Path, PathBuf};

use cache::HubAccess;
pub use files::Need;
pub use outline::Outline;

use crate::{
    catalog::{self, Entry},
    error::{Error, Result},
    files::check_regular,
    progress::Progress,
};

/// Finds and downloads models.
pub struct Hub<'a> {
    /// Or why there is no folder for the caches.
    access: Result<HubAccess<'a>, String>,
}

impl<'a> Hub<'a> {
    /// Uses the caches that the environment names. `HF_HUB_OFFLINE` of 1, on, yes or true also sets `offline`.
    pub fn from_env(offline: bool, progress: &'a dyn Progress) -> Self {
        let variable = std::env::var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
        let offline = offline || ["1", "on", "yes", "true"].contains(&variable.as_str());
        let caches = cache::hub_cache().and_then(|cache| Ok((cache, cache::own_cache()?)));
        let access = caches.map(|(cache, own)| HubAccess { cache, own, offline, progress });
        Self { access: access.map_err(|e| e.to_string()) }
    }

    /// The caches. Local files need none.
    ///
    /// # Errors
    /// The home folder is unknown.
    fn access(&self) -> Result<&HubAccess<'a>> {
        self.access.as_ref().map_err(|why| Error::failed(why.as_str()))
    }

    /// The local folder or file of a model. Downloads files that are not cached.
    ///
    /// `name`: an existing path, a short name of the catalogue, `owner/name`, `owner/name:file`, or a URL of a file.
    ///
    /// # Errors
    /// One sentence: none of these, a missing model, terms to accept, not enough disk space, or not cached and offline.
    pub fn resolve(&self, name: &str, need: Need) -> Result<PathBuf> {
        if name.is_empty() {
            return Err(Error::usage("the name of a model is empty"));
        }
        if name.starts_with("https://") || name.starts_with("http://") {
            return self.access()?.url(name, need);
        }
        if Path::new(name).exists() {
            check_regular(Path::new(name))?;
            return local(Path::new(name), need);
        }
        if let Some(entry) = catalog::find(name) {
            return self.known(entry, need);
        }
        // `weights/x4.pth` looks like a repository, but is a misspelled path.
        let weights = [".safetensors", ".pth", ".pkl", ".pt", ".onnx"].iter().any(|end| name.ends_with(end));
        if let Some((repo, file)) = repository(name).filter(|(_, file)| file.is_some() || !weights) {
            let found = self.repo(&repo::Request { repo, revision: "main", file, entry: None }, need);
            return found.map_err(|e| match catalog::near(repo) {
                Some(near) => e.advise(format_args!("did you mean {near}?")),
                None => e,
            });
        }
        let hint = catalog::near(name).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        Err(Error::usage(format!(
            "there is no file or folder {name}, and it is neither a short name of `crescendo models list` nor a repository owner/name{hint}"
        )))
    }

    /// As [`resolve`](Self::resolve) for a model in diffusers layout, without its weights: for `plan`.
    pub fn outline(&self, name: &str) -> Result<Outline> {
        let local = name.is_empty() || Path::new(name).exists();
        let entry = catalog::find(name).filter(|_| !local);
        let request = match entry {
            Some(entry) => entry.repo.as_deref().map(|repo| known_request(entry, repo)),
            None => repository(name).filter(|_| !local).map(|(repo, file)| repo::Request {
                repo,
                revision: "main",
                file,
                entry: None,
            }),
        };
        match request.filter(|request| request.file.is_none()) {
            Some(request) => self.access()?.outline(&request),
            None => {
                let folder = self.resolve(name, Need::Configs)?;
                Ok(Outline { folder, has_headers: true, download: Some(0) })
            }
        }
    }

    /// As [`resolve`](Self::resolve) for a model of the catalogue, but asks the hub for updates even if all files are cached.
    pub fn pull(&self, entry: &Entry) -> Result<PathBuf> {
        match (&entry.repo, &entry.url) {
            (Some(repo), _) if !self.access()?.offline => {
                let request = known_request(entry, repo);
                self.access()?.download(&request, if entry.file.is_some() { Need::File } else { Need::Model })
            }
            _ => self.known(entry, Need::Any),
        }
    }

    /// The path of a known model in the cache; `None` unless it is cached completely.
    pub fn cached(&self, entry: &Entry) -> Option<PathBuf> {
        let access = HubAccess { offline: true, ..self.access.clone().ok()? };
        let quiet = Self { access: Ok(access) };
        quiet.known(entry, Need::Any).ok()
    }

    /// Removes a known model or a repository from the caches. Returns the freed bytes.
    pub fn remove(&self, name: &str) -> Result<u64> {
        let entry = catalog::find(name);
        let repo = entry.and_then(|e| e.repo.as_deref()).or_else(|| repository(name).map(|(repo, _)| repo));
        let folder = match (repo, entry.and_then(|e| e.url.as_deref())) {
            (Some(repo), _) => cache::repo_folder(&self.access()?.cache, repo),
            (None, Some(url)) => url::folder(&self.access()?.own, url),
            (None, None) => return catalog::get(name).map(|_| 0),
        };
        let hint = entry.map_or_else(|| catalog::near(name), |_| None);
        let hint = hint.map(|n| format!("; did you mean {n}?")).unwrap_or_default();
        if !folder.is_dir() {
            return Err(Error::usage(format!(
                "{name} is not in the cache; `crescendo models du` lists its contents{hint}"
            )));
        }
        let bytes = cache::bytes_under(&folder);
        std::fs::remove_dir_all(&folder).map_err(|e| Error::io("removing", &folder, &e))?;
        if let Some(repo) = repo {
            // Best effort: without the repository, an outline is made again.
            let _ = std::fs::remove_dir_all(self.access()?.outlines(repo));
        }
        Ok(bytes)
    }

    fn known(&self, entry: &Entry, need: Need) -> Result<PathBuf> {
        match (&entry.repo, &entry.url) {
            (Some(repo), _) => self.repo(&known_request(entry, repo), need),
            (None, Some(url)) => self.access()?.url(url, need),
            (None, None) => Err(Error::failed(format!("the catalogue has no repository or URL for {}", entry.id))),
        }
    }

    fn repo(&self, request: &repo::Request, need: Need) -> Result<PathBuf> {
        if let Some(path) = self.access()?.cached_request(request, need)? {
            return Ok(path);
        }
        if self.access()?.offline {
            return Err(self.access()?.offline_error(request, need));
        }
        self.access()?.download(request, need)
    }
}

fn known_request<'e>(entry: &'e Entry, repo: &'e str) -> repo::Request<'e> {
    repo::Request { repo, revision: &entry.revision, file: entry.file.as_deref(), entry: Some(entry) }
}

/// Parses `owner/name` or `owner/name:file`, with the characters that the hub allows.
fn repository(name: &str) -> Option<(&str, Option<&str>)> {
    let (repo, file) = match name.split_once(':') {
        Some((repo, file)) => (repo, Some(file)),
        None => (name, None),
    };
    let (owner, model) = repo.split_once('/')?;
    let good = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !part.contains("..")
            && !part.contains("--")
    };
    let file_good =
        file.is_none_or(|f| !f.is_empty() && f.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
    (good(owner) && good(model) && file_good).then_some((repo, file))
}

fn local(path: &Path, need: Need) -> Result<PathBuf> {
    match (need, path.is_dir()) {
        (Need::Model | Need::Configs, false) => Err(Error::usage(format!(
            "{} is a file; expected a folder in diffusers layout, with model_index.json",
            path.display()
        ))),
        (Need::File, true) => {
            let entries = std::fs::read_dir(path).map_err(|e| Error::io("reading", path, &e))?;
            let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
            names.sort();
            let name = files::single(names.iter().map(String::as_str), &path.display().to_string())?;
            Ok(path.join(name))
        }
        _ => Ok(path.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories() {
        let mut bad = Vec::new();
        for (name, want) in [
            ("org/name", Some(("org/name", None))),
            ("org/na.me-1_x", Some(("org/na.me-1_x", None))),
            ("org/name:sub/file.pth", Some(("org/name", Some("sub/file.pth")))),
            ("org/name:", None),
            ("org/name:../x", None),
            ("org/../x", None),
            ("./org/name", None),
            ("/org/name", None),
            ("a/b/c", None),
            ("name", None),
            ("org/..", None),
        ] {
            if repository(name) != want {
                bad.push(format!("{name}: expected {want:?}, got {:?}", repository(name)));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
