//! Where results go and what they are called.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{
    error::{Error, Result},
    media::format::{self, FileFormat},
};

/// Where results go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// They are made and not kept.
    #[default]
    Nowhere,
    /// The one result is written to standard output.
    StandardOutput,
    /// Automatic names in this folder.
    Folder(PathBuf),
    /// This file; several results get `_0`, `_1`, … before the extension.
    File(PathBuf),
}

/// Where results go and how they are encoded.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Output {
    /// Where results go.
    pub destination: Destination,
    /// Whether a file that is there may be replaced.
    pub overwrite: bool,
    /// 0–100 where it was asked for, see [`Output::compression`].
    pub compression: Option<u8>,
    /// x264's preset.
    pub x264_preset: Option<String>,
    /// FFmpeg's encoder name; `None`: h264.
    pub codec: Option<String>,
    /// Constant rate factor.
    pub crf: Option<f64>,
    /// FFmpeg's pixel format name.
    pub pix_fmt: Option<String>,
    /// Options of the encoder.
    pub encoder_options: Vec<(String, String)>,
    /// Whether what was written is decoded and checked before it gets its name.
    pub verify: bool,
}

/// One result that needs a name.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// What it was made from.
    pub prompt: &'a str,
    /// Its seed.
    pub seed: u64,
    /// Its number among `count` results, from 0.
    pub index: usize,
    /// Results of the whole call.
    pub count: usize,
    /// Whether it is a video.
    pub video: bool,
}

impl Output {
    /// Compression, 0 (smallest) to 100 (best): as asked for, else 50 for a video and 75 for a picture.
    pub fn compression(&self, video: bool) -> u8 {
        self.compression.unwrap_or(if video { 50 } else { 75 })
    }

    /// The file for a result, `None` when it goes nowhere or to standard output. Nothing is created.
    ///
    /// Fails when a given name is taken and `overwrite` is off, or its extension is not for this kind of result.
    pub fn path(&self, item: Item) -> Result<Option<PathBuf>> {
        let default = if item.video { format::DEFAULT_VIDEO } else { format::DEFAULT_PICTURE };
        match &self.destination {
            Destination::Nowhere | Destination::StandardOutput => Ok(None),
            Destination::Folder(folder) => {
                let stem = format!("{}_{}", slug(item.prompt), item.seed);
                Ok(Some(free_name(folder, &stem, default, self.overwrite && item.count == 1)))
            }
            Destination::File(path) => {
                let extension = known_extension(path)?.unwrap_or_else(|| default.into());
                fits(&extension, item.video, path)?;
                let path = match item.count {
                    0 | 1 if path.extension().is_some() => path.clone(),
                    0 | 1 => append(path, &format!(".{extension}")),
                    _ => append(&path.with_extension(""), &format!("_{}.{extension}", item.index)),
                };
                self.may_write(&path)?;
                Ok(Some(path))
            }
        }
    }

    /// Fails when `path` is there and may not be replaced.
    pub fn may_write(&self, path: &Path) -> Result<()> {
        if !self.overwrite && path.symlink_metadata().is_ok() {
            return Err(Error::usage(format!("{} is there already; give another name or --overwrite", path.display())));
        }
        Ok(())
    }
}

fn append(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// The lower-case extension; `None` without one; an error when nothing can write it.
pub(crate) fn known_extension(path: &Path) -> Result<Option<String>> {
    let Some(extension) = path.extension() else { return Ok(None) };
    let extension = extension.to_string_lossy().to_ascii_lowercase();
    if FileFormat::of_path(path).is_some_and(|format| format.writes_pictures() || format.writes_videos()) {
        return Ok(Some(extension));
    }
    Err(Error::usage(format!(
        "{}: .{extension} cannot be written; use {} for a picture, {} for a video",
        path.display(),
        format::picture_extensions(),
        format::video_extensions()
    )))
}

fn fits(extension: &str, video: bool, path: &Path) -> Result<()> {
    let format = FileFormat::of_path(&Path::new("x").with_extension(extension));
    let (right, kind, use_) = if video {
        (format.is_some_and(FileFormat::writes_videos), "video", format::video_extensions())
    } else {
        (format.is_some_and(FileFormat::writes_pictures), "picture", format::picture_extensions())
    };
    if right {
        return Ok(());
    }
    Err(Error::usage(format!("{}: a {kind} cannot be written as .{extension}; use {use_}", path.display())))
}

/// A prompt as a file name: lower-case ASCII letters, digits and `-`, at most 60 bytes.
pub fn slug(prompt: &str) -> String {
    let mut slug = String::new();
    for c in prompt.chars() {
        match c {
            _ if slug.len() >= 60 => break,
            c if c.is_ascii_alphanumeric() => slug.push(c.to_ascii_lowercase()),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "output".into() } else { slug.into() }
}

fn free_name(folder: &Path, stem: &str, extension: &str, overwrite: bool) -> PathBuf {
    let first = folder.join(format!("{stem}.{extension}"));
    if overwrite || first.symlink_metadata().is_err() {
        return first;
    }
    let mut n = 1_u64;
    loop {
        let next = folder.join(format!("{stem}_{n}.{extension}"));
        if next.symlink_metadata().is_err() {
            return next;
        }
        n += 1;
    }
}
