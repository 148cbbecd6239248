//! Where results go and how they are encoded: flags, their meaning, and the choice of names.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::value;
use crate::error::{Error, Result};

/// Flags of encoding, the same for `generate` and `enhance`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct EncodingArgs {
    /// Compression by name: 100, 90, 55, 35; default is 50 for a video and 75 for a picture
    #[arg(long, value_enum, default_value = "default", value_name = "NAME")]
    pub output_quality: OutputQuality,

    /// Compression by number, 0 (smallest) to 100 (best); wins over --output-quality
    #[arg(long, value_name = "0-100", value_parser = value::int_in("output_compression", 0..=100))]
    pub output_compression: Option<u32>,

    /// Speed against size of x264
    #[arg(long, value_name = "NAME", value_parser = x264_preset)]
    pub x264_preset: Option<String>,

    /// Video encoder, by FFmpeg's name [default: h264]
    #[arg(long, value_name = "NAME")]
    pub codec: Option<String>,

    /// Constant rate factor of the video encoder; wins over quality and compression
    #[arg(long, value_name = "N", value_parser = value::non_negative("crf"))]
    pub crf: Option<f64>,

    /// Pixel format of the video, by FFmpeg's name
    #[arg(long, value_name = "NAME")]
    pub pix_fmt: Option<String>,

    /// An option of the encoder; may be repeated
    #[arg(short = 'e', value_name = "KEY=VALUE", value_parser = value::key_value)]
    pub encoder_options: Vec<(String, String)>,

    /// Replace files that are there
    #[arg(long)]
    pub overwrite: bool,
}

impl EncodingArgs {
    /// Resolved, with this destination.
    pub fn resolve(self, destination: Destination) -> Output {
        Output {
            destination,
            overwrite: self.overwrite,
            compression: self.output_compression.map(|n| n as u8).or(self.output_quality.compression()),
            x264_preset: self.x264_preset,
            codec: self.codec,
            crf: self.crf,
            pix_fmt: self.pix_fmt,
            encoder_options: self.encoder_options,
        }
    }
}

/// Flags of the place of generated files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct DestinationArgs {
    /// Folder for results
    #[arg(long, value_name = "FOLDER", default_value = "outputs/")]
    pub output_path: PathBuf,

    /// Name inside --output-path; .png or .mp4 is added when it has no extension [default: from prompt and seed]
    #[arg(long, value_name = "NAME")]
    pub output_file_name: Option<String>,

    /// The whole path; `-` writes to standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output_path", "output_file_name"])]
    pub output_file_path: Option<PathBuf>,

    /// Save results (this is the default)
    #[arg(long, overrides_with = "no_save_output")]
    pub save_output: bool,

    /// Make results but do not save them
    #[arg(long, overrides_with = "save_output")]
    pub no_save_output: bool,
}

impl DestinationArgs {
    /// Where results go; an extension that cannot be written is refused here.
    pub fn resolve(self) -> Result<Destination> {
        let destination = match (self.no_save_output, self.output_file_path, self.output_file_name) {
            (true, ..) => Destination::Nowhere,
            (_, Some(path), _) if path.as_os_str() == "-" => Destination::StandardOutput,
            (_, Some(path), _) => Destination::File(path),
            (_, None, Some(name)) if name.is_empty() || name.contains('/') => {
                return Err(Error::usage(format!(
                    "--output-file-name must be a name without folders, got {}; use --output-file-path for a whole path",
                    value::shown(&name)
                )));
            }
            (_, None, Some(name)) => Destination::File(self.output_path.join(name)),
            (_, None, None) => Destination::Folder(self.output_path),
        };
        if let Destination::File(path) = &destination
            && path.file_name().is_none()
        {
            return Err(Error::usage(format!("{} names no file", path.display())));
        }
        if let Destination::File(path) = &destination
            && let Some(extension) = known_extension(path)?
        {
            tracing::debug!(extension, "output form");
        }
        Ok(destination)
    }
}

/// `--output-quality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs)]
pub enum OutputQuality {
    Maximum,
    High,
    Medium,
    Low,
    Default,
}

impl OutputQuality {
    fn compression(self) -> Option<u8> {
        match self {
            Self::Maximum => Some(100),
            Self::High => Some(90),
            Self::Medium => Some(55),
            Self::Low => Some(35),
            Self::Default => None,
        }
    }
}

/// Where results go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// They are made and not kept.
    Nowhere,
    /// The one result is written to standard output.
    StandardOutput,
    /// Automatic names in this folder.
    Folder(PathBuf),
    /// This file; several results get `_0`, `_1`, … before the extension.
    File(PathBuf),
}

/// Where results go and how they are encoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
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

/// Extensions of pictures that can be written.
pub const PICTURES: [&str; 5] = ["png", "jpg", "jpeg", "webp", "gif"];
/// Extensions of videos that can be written.
pub const VIDEOS: [&str; 4] = ["mp4", "mkv", "webm", "gif"];

impl Output {
    /// Compression, 0 (smallest) to 100 (best): as asked for, else 50 for a video and 75 for a picture.
    pub fn compression(&self, video: bool) -> u8 {
        self.compression.unwrap_or(if video { 50 } else { 75 })
    }

    /// The file for a result, `None` when it goes nowhere or to standard output. Nothing is created.
    ///
    /// Fails when a given name is taken and `overwrite` is off, or its extension is not for this kind of result.
    pub fn path(&self, item: Item) -> Result<Option<PathBuf>> {
        let default = if item.video { "mp4" } else { "png" };
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
fn known_extension(path: &Path) -> Result<Option<String>> {
    let Some(extension) = path.extension() else { return Ok(None) };
    let extension = extension.to_string_lossy().to_ascii_lowercase();
    if PICTURES.contains(&&*extension) || VIDEOS.contains(&&*extension) {
        return Ok(Some(extension));
    }
    Err(Error::usage(format!(
        "{}: .{extension} cannot be written; use .png, .jpg, .webp or .gif for a picture, .mp4, .mkv, .webm or .gif for a video",
        path.display()
    )))
}

fn fits(extension: &str, video: bool, path: &Path) -> Result<()> {
    let (right, kind, use_) = if video {
        (VIDEOS.contains(&extension), "video", ".mp4, .mkv, .webm or .gif")
    } else {
        (PICTURES.contains(&extension), "picture", ".png, .jpg, .webp or .gif")
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

fn x264_preset(typed: &str) -> Result<String, String> {
    const PRESETS: [&str; 10] =
        ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"];
    if PRESETS.contains(&typed) {
        return Ok(typed.into());
    }
    Err(format!("x264_preset must be one of {}, got {}", PRESETS.join(", "), value::shown(typed)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn output(destination: Destination) -> Output {
        Output {
            destination,
            overwrite: false,
            compression: None,
            x264_preset: None,
            codec: None,
            crf: None,
            pix_fmt: None,
            encoder_options: vec![],
        }
    }

    #[test]
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |n: &str| folder.path().join(n);
        std::fs::write(at("a-serene-lake_42.png"), "").unwrap();
        std::fs::write(at("a-serene-lake_42_1.png"), "").unwrap();
        std::fs::write(at("taken.png"), "").unwrap();
        let item = |prompt, count, video| Item { prompt, seed: 42, index: 1, count, video };
        let auto = || Destination::Folder(folder.path().into());
        let file = |n: &str| Destination::File(at(n));
        let mut bad = Vec::new();
        for (destination, item, want) in [
            (auto(), item("A serene lake!", 1, false), "a-serene-lake_42_2.png"),
            (auto(), item("A serene lake!", 1, true), "a-serene-lake_42.mp4"),
            (auto(), item("…", 1, false), "output_42.png"),
            (auto(), item("../../etc/passwd", 1, false), "etc-passwd_42.png"),
            (file("x.jpg"), item("p", 1, false), "x.jpg"),
            (file("x"), item("p", 1, true), "x.mp4"),
            (file("x.webp"), item("p", 3, false), "x_1.webp"),
            (file("taken.png"), item("p", 1, false), "is there already"),
            (file("x.mp4"), item("p", 1, false), "a picture cannot be written as .mp4"),
            (file("x.png"), item("p", 1, true), "a video cannot be written as .png"),
            (file("x.docx"), item("p", 1, true), ".docx cannot be written"),
        ] {
            let got = match output(destination).path(item) {
                Ok(path) => path.unwrap().strip_prefix(folder.path()).unwrap().display().to_string(),
                Err(e) => e.to_string(),
            };
            if got != want && !(got.contains(' ') && got.contains(want)) {
                bad.push(format!("wanted {want}, got {got}"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
        assert_eq!(slug(&"longwords".repeat(50)).len(), 60);
    }

    #[test]
    fn compression() {
        let mut out = output(Destination::Nowhere);
        assert_eq!((out.compression(true), out.compression(false)), (50, 75));
        out.compression = OutputQuality::Low.compression();
        assert_eq!((out.compression(true), out.compression(false)), (35, 35));
    }
}
