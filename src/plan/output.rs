//! Output files: destination, names and encoding.

use std::path::{Path, PathBuf};

use serde::Serialize;
use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

use crate::{
    error::{Error, Result},
    files,
    media::{
        format::{self, Access, FileFormat},
        video::is_container,
    },
};

/// Destination of the outputs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Outputs are discarded.
    #[default]
    Nowhere,
    /// The only output is written to standard output.
    StandardOutput,
    /// Automatic names in this folder.
    Folder(PathBuf),
    /// This file. Several outputs get `_0`, `_1`, … before the extension.
    File(PathBuf),
}

/// Output files and their encoding.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Output {
    /// Destination.
    pub destination: Destination,
    /// Whether an existing file may be replaced.
    pub overwrite: bool,
    /// 0 to 100. `None`: see [`Output::compression`].
    pub compression: Option<u8>,
    /// x264 preset.
    pub x264_preset: Option<String>,
    /// Video encoder, by FFmpeg's name. `None`: the file format's default.
    pub codec: Option<String>,
    /// Constant rate factor.
    pub crf: Option<f64>,
    /// Pixel format, by FFmpeg's name.
    pub pix_fmt: Option<String>,
    /// Encoder options.
    pub encoder_options: Vec<(String, String)>,
    /// Whether a pending file is decoded and checked before it is renamed.
    pub verify: bool,
}

/// An output that needs a name.
#[derive(Debug, Clone, Copy)]
pub struct Item<'a> {
    /// The prompt.
    pub prompt: &'a str,
    /// The seed.
    pub seed: u64,
    /// Index among `count` outputs, from 0.
    pub index: usize,
    /// Number of outputs of the call.
    pub count: usize,
    /// Whether it is a video.
    pub video: bool,
}

impl Output {
    /// Compression, 0 (smallest file) to 100 (best quality). Default: 50 for a video, 75 for a generated picture.
    /// (An enhanced picture has its own default.)
    pub fn compression(&self, video: bool) -> u8 {
        self.compression.unwrap_or(if video { 50 } else { 75 })
    }

    /// The output file. `None`: discarded, or standard output. Creates nothing.
    ///
    /// # Errors
    /// The given file exists and `overwrite` is off; its extension does not fit a picture or video.
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

    /// Whether names are chosen so that they replace no file.
    pub fn is_automatic(&self) -> bool {
        matches!(self.destination, Destination::Folder(_)) && !self.overwrite
    }

    /// Returns an error if `path` exists and `overwrite` is off. FIFOs and devices are written through.
    pub fn may_write(&self, path: &Path) -> Result<()> {
        if !self.overwrite && files::is_taken(path) {
            return Err(Error::usage(format!(
                "{} already exists; choose another name or pass --overwrite",
                path.display()
            )));
        }
        Ok(())
    }
}

fn append(path: &Path, tail: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(tail);
    name.into()
}

/// The lower-case extension. `None`: no extension.
///
/// # Errors
/// An extension that no output format has.
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

/// Checks the extension of an output of `enhance`, without reading a file. `input` `None`: numbered pictures.
///
/// # Errors
/// No extension, one that nothing writes, or one that does not fit the kind of the input, if the input's extension tells it.
pub(crate) fn check_extension(input: Option<&Path>, output: &Path) -> Result<()> {
    let Some(extension) = output.extension().map(|e| e.to_string_lossy().to_ascii_lowercase()) else {
        let name = output.display();
        return Err(Error::usage(format!("{name}: the name has no extension; give one such as .png or .mp4")));
    };
    let format = input.and_then(FileFormat::of_path);
    let reads = |access| access != Access::None;
    let video = match format {
        Some(format) if reads(format.still) && reads(format.video) => return known_extension(output).map(drop),
        Some(format) => reads(format.video),
        None if input.is_none() => true,
        None => return known_extension(output).map(drop),
    };
    // FFmpeg writes containers that the table does not list, or only as readable.
    if video && is_container(output) {
        return Ok(());
    }
    known_extension(output)?;
    fits(&extension, video, output)
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

/// Most bytes of the part of an automatic file name that comes from the prompt.
const MAX_SLUG: usize = 60;

/// A file name from a prompt: lower-case letters and digits of every script, and `-` for all else; at most [`MAX_SLUG`] bytes. The
/// seed follows it, so that no name is one that Windows reserves, such as `con`.
fn slug(prompt: &str) -> String {
    let mut slug = String::new();
    for c in prompt.nfc().flat_map(char::to_lowercase) {
        let after_letter = !slug.is_empty() && !slug.ends_with('-');
        let next = match c {
            c if c.is_alphanumeric() || (after_letter && is_combining_mark(c)) => c,
            _ if after_letter => '-',
            _ => continue,
        };
        if slug.len() + next.len_utf8() > MAX_SLUG {
            break;
        }
        slug.push(next);
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "output".into() } else { slug.into() }
}

/// The first name that no file has and no process writes.
fn free_name(folder: &Path, stem: &str, extension: &str, overwrite: bool) -> PathBuf {
    let name = |n: u64| match n {
        0 => folder.join(format!("{stem}.{extension}")),
        n => folder.join(format!("{stem}_{n}.{extension}")),
    };
    let is_free = |path: &PathBuf| path.symlink_metadata().is_err() && !files::is_pending(path);
    if overwrite { name(0) } else { (0..).map(name).find(is_free).unwrap_or_else(|| name(0)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn output(destination: Destination) -> Output {
        Output { destination, ..Output::default() }
    }

    #[test]
    fn names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |n: &str| folder.path().join(n);
        std::fs::write(at("a-serene-lake_42.png"), "").unwrap();
        std::fs::write(at("a-serene-lake_42_1.png"), "").unwrap();
        std::fs::write(at("taken.png"), "").unwrap();
        let _written = files::PendingFile::create(&at("fox_42.png"), false).unwrap();
        let item = |prompt, count, video| Item { prompt, seed: 42, index: 1, count, video };
        let auto = || Destination::Folder(folder.path().into());
        let file = |n: &str| Destination::File(at(n));
        let mut bad = Vec::new();
        for (destination, item, want) in [
            (auto(), item("A serene lake!", 1, false), "a-serene-lake_42_2.png"),
            (auto(), item("A serene lake!", 1, true), "a-serene-lake_42.mp4"),
            (auto(), item("fox", 1, false), "fox_42_1.png"),
            (auto(), item("…", 1, false), "output_42.png"),
            (auto(), item("../../etc/passwd", 1, false), "etc-passwd_42.png"),
            (file("x.jpg"), item("p", 1, false), "x.jpg"),
            (file("x"), item("p", 1, true), "x.mp4"),
            (file("x.webp"), item("p", 3, false), "x_1.webp"),
            (file("x.TIF"), item("p", 1, false), "x.TIF"),
            (file("x.mov"), item("p", 1, true), "x.mov"),
            (file("x.bmp"), item("p", 1, false), "x.bmp"),
            (file("x.wmv"), item("p", 1, false), "x.wmv: .wmv cannot be written"),
            (file("taken.png"), item("p", 1, false), "already exists"),
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
    }

    /// Prompt and automatic name. No row has a path separator, a control character, a leading dot or dash, or a reserved name.
    #[test]
    fn automatic_names() {
        let folder = Path::new("out");
        let auto = output(Destination::Folder(folder.into()));
        let mut bad = Vec::new();
        for (prompt, want) in [
            ("A serene lake!", "a-serene-lake"),
            ("😀 ünïcödé 日本語", "ünïcödé-日本語"),
            ("ÜBER Straße", "über-straße"),
            ("cafe\u{301} au lait", "café-au-lait"),
            ("q\u{323}uark", "q\u{323}uark"),
            ("हिन्दी में", "हिन्दी-में"),
            ("٣ قطط", "٣-قطط"),
            ("лиса, снег", "лиса-снег"),
            ("👩\u{200d}👧 ❤\u{fe0f}", "output"),
            ("../../etc/passwd", "etc-passwd"),
            ("..\\windows\\system", "windows-system"),
            ("-rf .hidden", "rf-hidden"),
            ("...", "output"),
            ("a\0b\nc\u{7f}d\u{202e}e\u{2028}f", "a-b-c-d-e-f"),
            ("\u{301}\u{301}", "output"),
            ("CON", "con"),
            ("a:b*c?d\"e<f>g|h", "a-b-c-d-e-f-g-h"),
            ("", "output"),
            (&"x".repeat(200), &"x".repeat(60)),
            (&"日".repeat(200), &"日".repeat(20)),
            (&format!("a{}", "日".repeat(200)), &format!("a{}", "日".repeat(19))),
            (&format!("{} fox", "x".repeat(59)), &"x".repeat(59)),
        ] {
            let item = Item { prompt, seed: 42, index: 0, count: 1, video: false };
            let got = auto.path(item).unwrap().unwrap();
            if got != folder.join(format!("{want}_42.png")) {
                bad.push(format!("{prompt:?}: expected {want}, got {}", got.display()));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
