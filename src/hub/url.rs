//! Files of URLs: downloaded once. An interrupted download is resumed.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::{
    StatusCode,
    blocking::{Client, Response},
    header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, LAST_MODIFIED, RANGE},
};
use sha2::{Digest, Sha256};

use super::{
    cache::{self, HubAccess},
    outline::Outline,
};
use crate::{
    catalog::{self, Entry},
    error::{Error, Result},
    progress::{Task, Unit},
};

/// The folder of a URL in Crescendo's cache.
pub(super) fn folder(own: &Path, url: &str) -> PathBuf {
    let digest = Sha256::digest(url.as_bytes());
    let name: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    own.join("urls").join(name)
}

impl HubAccess<'_> {
    /// The local copy of the file at `url`.
    pub(super) fn url(&self, url: &str) -> Result<PathBuf> {
        let path = self.url_path(url)?;
        if path.is_file() {
            return Ok(path);
        }
        if self.offline {
            return Err(offline_error(url, &path));
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        fs::create_dir_all(directory).map_err(|e| Error::io("creating the folder", directory, &e))?;
        Transfer { url, path: &path, part: with_tail(&path, ".part"), tag: with_tail(&path, ".tag") }.run(self)?;
        Ok(path)
    }

    /// As [`url`](Self::url) without a download. Without a network, the catalogue has the size.
    pub(super) fn url_outline(&self, url: &str) -> Result<Outline> {
        let path = self.url_path(url)?;
        if path.is_file() {
            return Ok(Outline::cached(path));
        }
        let known = entry(url);
        if !self.offline {
            return Ok(Outline::absent(path, length(url)?));
        }
        known.map(|entry| Outline::absent(path.clone(), entry.bytes())).ok_or_else(|| offline_error(url, &path))
    }

    fn url_path(&self, url: &str) -> Result<PathBuf> {
        Ok(folder(&self.own, url).join(file_name(url)?))
    }
}

fn offline_error(url: &str, path: &Path) -> Error {
    let folder = path.parent().unwrap_or(Path::new("")).display();
    Error::failed(format!("{url} is not in {folder}; run once without --offline and HF_HUB_OFFLINE to download it"))
}

/// The catalogue's entry of a URL.
fn entry(url: &str) -> Option<&'static Entry> {
    catalog::entries().iter().find(|entry| entry.url.as_deref() == Some(url))
}

fn client(url: &str) -> Result<Client> {
    let builder = Client::builder().user_agent(concat!("crescendo/", env!("CARGO_PKG_VERSION")));
    let built = builder.connect_timeout(Duration::from_secs(30)).timeout(None).build();
    built.map_err(|e| unreachable(url, &e))
}

/// Bytes of the file at `url`. `None`: the server does not say.
fn length(url: &str) -> Result<Option<u64>> {
    let response = client(url)?.head(url).send().map_err(|e| unreachable(url, &e))?;
    match response.status() {
        StatusCode::NOT_FOUND => Err(no_file(url)),
        // A server may refuse this request and allow the download.
        status if !status.is_success() => Ok(None),
        _ => Ok(response.headers().get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse().ok())),
    }
}

fn no_file(url: &str) -> Error {
    Error::failed(format!("no file at {url}"))
}

fn unreachable(url: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    Error::failed(format!("{url} cannot be reached ({cause}); check the network and the URL"))
}

fn file_name(url: &str) -> Result<String> {
    let parsed = reqwest::Url::parse(url).map_err(|e| Error::usage(format!("{url} is not a URL: {e}")))?;
    let last = parsed.path_segments().and_then(|mut s| s.next_back()).unwrap_or_default();
    let plain = !last.is_empty() && !last.starts_with('.') && !last.contains(['%', '\\']);
    if plain { Ok(last.into()) } else { Err(Error::usage(format!("{url} does not end in a file's name"))) }
}

fn with_tail(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// One download.
struct Transfer<'a> {
    url: &'a str,
    path: &'a Path,
    part: PathBuf,
    /// The server's `ETag` or date of the version of `part`. Without it, a download is not resumed.
    tag: PathBuf,
}

impl Transfer<'_> {
    fn run(&self, access: &HubAccess) -> Result<()> {
        let (response, have) = self.ask()?;
        let rest = response.content_length();
        let total = rest.map(|n| n + have);
        cache::check_space(self.path, rest.unwrap_or(0))?;
        self.note_version(response.headers())?;
        let name = self.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let known = entry(self.url);
        let size = total.map(|bytes| format!(", {}", cache::gigabytes(bytes))).unwrap_or_default();
        let licence = known.map(|entry| format!(", licence {}", entry.licence)).unwrap_or_default();
        tracing::info!("downloading {}{size}{licence}", self.url);
        let mut task = Task::new(access.progress, name, total, Unit::Bytes);
        task.step(have)?;
        let got = self.copy(response, have, total.is_some(), &mut task)?;
        if let Some(total) = total
            && got != total
        {
            return Err(Error::failed(format!(
                "the download of {} was interrupted after {got} of {total} bytes; run again to resume it",
                self.url
            )));
        }
        fs::rename(&self.part, self.path).map_err(|e| Error::io("renaming", &self.part, &e))?;
        let _ = fs::remove_file(&self.tag);
        Ok(())
    }

    /// The response, and the number of bytes that `part` already has.
    fn ask(&self) -> Result<(Response, u64)> {
        let have = self.part.metadata().map_or(0, |m| m.len());
        let mut request = client(self.url)?.get(self.url);
        let tag = fs::read_to_string(&self.tag).ok().filter(|_| have > 0);
        if let Some(tag) = &tag {
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, tag);
        }
        let response = request.send().map_err(|e| unreachable(self.url, &e))?;
        let starts_there = response
            .headers()
            .get(CONTENT_RANGE)
            .and_then(|v| v.to_str().ok())
            .is_some_and(|v| v.starts_with(&format!("bytes {have}-")));
        match response.status() {
            StatusCode::PARTIAL_CONTENT if tag.is_some() && starts_there => Ok((response, have)),
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.start_over()?;
                Err(Error::failed(format!("{} has changed since the download began; run again", self.url)))
            }
            StatusCode::OK => {
                self.start_over()?;
                Ok((response, 0))
            }
            StatusCode::NOT_FOUND => Err(no_file(self.url)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::failed(format!(
                "{} may not be downloaded ({}); for a file of the hub give owner/name:file and set HF_TOKEN",
                self.url,
                response.status()
            ))),
            status => Err(Error::failed(format!("{} returned {status}; try again later", self.url))),
        }
    }

    fn start_over(&self) -> Result<()> {
        for path in [&self.part, &self.tag] {
            if let Err(e) = fs::remove_file(path)
                && e.kind() != std::io::ErrorKind::NotFound
            {
                return Err(Error::io("removing", path, &e));
            }
        }
        Ok(())
    }

    fn note_version(&self, headers: &HeaderMap) -> Result<()> {
        let strong = headers.get(ETAG).filter(|v| !v.as_bytes().starts_with(b"W/"));
        let Some(version) = strong.or(headers.get(LAST_MODIFIED)) else { return Ok(()) };
        fs::write(&self.tag, version.as_bytes()).map_err(|e| Error::io("writing", &self.tag, &e))
    }

    /// Appends the body to `part`. Returns the bytes that `part` then has. If the length is known, the caller reports a body that is
    /// too short.
    fn copy(&self, mut response: Response, have: u64, length_known: bool, task: &mut Task) -> Result<u64> {
        let failed = |e: std::io::Error| Error::io("writing", &self.part, &e);
        let mut file: File = OpenOptions::new().create(true).append(true).open(&self.part).map_err(failed)?;
        let (mut buffer, mut got) = (vec![0; 1 << 16], have);
        loop {
            let n = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) if length_known => {
                    tracing::debug!("{}: {e}", self.url);
                    break;
                }
                Err(e) => {
                    return Err(Error::failed(format!("the download of {} was interrupted: {e}; run again", self.url)));
                }
            };
            file.write_all(&buffer[..n]).map_err(failed)?;
            got += n as u64;
            task.step(n as u64)?;
        }
        file.sync_all().map_err(failed)?;
        Ok(got)
    }
}
