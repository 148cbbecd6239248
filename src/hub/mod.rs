//! Resolves the name of a model to a local file or folder: a path, a short name of the catalogue, a hub repository, `repo:file`, or
//! a URL.
//!
//! Files of repositories are in the cache of Python's `huggingface_hub` (`HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT` and
//! `HF_HUB_OFFLINE` apply). Files of URLs are in `${XDG_CACHE_HOME:-~/.cache}/crescendo/urls`. A model that is cached completely
//! needs no network. `plan` reads the headers of weights only ([`Hub::outline`], [`Hub::network_outline`]).

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
        match source(name, need)? {
            Source::Local(path) => {
                check_regular(path)?;
                local(path, need)
            }
            Source::Url(url) => self.access()?.url(url),
            Source::Repo(request) => self.repo(&request, need).map_err(|e| advise_near(e, &request)),
        }
    }

    /// As [`resolve`](Self::resolve) for a model in diffusers layout, without its weights: for `plan`.
    pub fn outline(&self, name: &str) -> Result<Outline> {
        match source(name, Need::Configs)? {
            Source::Repo(request) => self.access()?.outline(&request).map_err(|e| advise_near(e, &request)),
            Source::Local(_) | Source::Url(_) => self.resolve(name, Need::Configs).map(Outline::cached),
        }
    }

    /// As [`resolve`](Self::resolve) for the file of a network, which is not downloaded: for `plan`.
    pub fn network_outline(&self, name: &str) -> Result<Outline> {
        match source(name, Need::File)? {
            Source::Local(_) => self.resolve(name, Need::File).map(Outline::cached),
            Source::Url(url) => self.access()?.url_outline(url),
            Source::Repo(request) => self.access()?.file_outline(&request).map_err(|e| advise_near(e, &request)),
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
        match known_source(entry)? {
            Source::Url(url) => self.access()?.url(url),
            Source::Repo(request) => self.repo(&request, need),
            Source::Local(path) => local(path, need),
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

/// Where the files of a model come from.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    /// An existing path.
    Local(&'a Path),
    /// The URL of a file.
    Url(&'a str),
    /// A repository of the hub, or one of its files.
    Repo(repo::Request<'a>),
}

/// What a name stands for.
///
/// # Errors
/// Nothing; a single file where a model in diffusers layout is needed.
fn source(name: &str, need: Need) -> Result<Source<'_>> {
    if name.is_empty() {
        return Err(Error::usage("the name of a model is empty"));
    }
    let found = find_source(name)?;
    let one_file = matches!(found, Source::Url(_) | Source::Repo(repo::Request { file: Some(_), .. }));
    if one_file && matches!(need, Need::Model | Need::Configs) {
        return Err(Error::usage(format!(
            "{name}: a model in diffusers layout has several files; give a folder, a repository owner/name or a short name"
        )));
    }
    Ok(found)
}

fn find_source(name: &str) -> Result<Source<'_>> {
    if name.starts_with("https://") || name.starts_with("http://") {
        return Ok(Source::Url(name));
    }
    if Path::new(name).exists() {
        return Ok(Source::Local(Path::new(name)));
    }
    if let Some(entry) = catalog::find(name) {
        return known_source(entry);
    }
    // `weights/x4.pth` looks like a repository, but is a misspelled path.
    let weights = [".safetensors", ".pth", ".pkl", ".pt", ".onnx"].iter().any(|end| name.ends_with(end));
    if let Some((repo, file)) = repository(name).filter(|(_, file)| file.is_some() || !weights) {
        return Ok(Source::Repo(repo::Request { repo, revision: "main", file, entry: None }));
    }
    let hint = catalog::near(name).map(|n| format!("; did you mean {n}?")).unwrap_or_default();
    Err(Error::usage(format!(
        "there is no file or folder {name}, and it is neither a short name of `crescendo models list` nor a repository owner/name{hint}"
    )))
}

fn known_source(entry: &Entry) -> Result<Source<'_>> {
    match (&entry.repo, &entry.url) {
        (Some(repo), _) => Ok(Source::Repo(known_request(entry, repo))),
        (None, Some(url)) => Ok(Source::Url(url)),
        (None, None) => Err(Error::failed(format!("the catalogue has no repository or URL for {}", entry.id))),
    }
}

/// Names the known repository or short name that is nearest to an unknown one.
fn advise_near(error: Error, request: &repo::Request) -> Error {
    match catalog::near(request.repo).filter(|_| request.entry.is_none()) {
        Some(near) => error.advise(format_args!("did you mean {near}?")),
        None => error,
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
