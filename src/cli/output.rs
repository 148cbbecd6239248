//! Where results go and how they are encoded: flags, their meaning, and the choice of names.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::value;
use crate::{
    error::{Error, Result},
    plan::{Destination, Output, known_extension},
};

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

    /// Decode what was written and check it: frames, size, and every sample where the format is lossless
    #[arg(long)]
    pub verify: bool,
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
            verify: self.verify,
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
    use crate::plan::{Item, slug};

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
            verify: false,
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
            (file("x.TIF"), item("p", 1, false), "x.TIF"),
            (file("x.mov"), item("p", 1, true), "x.mov"),
            (file("x.bmp"), item("p", 1, false), "x.bmp: .bmp cannot be written"),
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
