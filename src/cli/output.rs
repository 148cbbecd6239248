//! Flags of output files and their encoding.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::value;
use crate::{
    error::{Error, Result},
    files::{is_folder_name, is_special},
    media::video::{VideoOptions, check_options},
    plan::{Destination, Output, known_extension},
};

/// Encoding flags of `generate` and `enhance`.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct EncodingArgs {
    /// Named value of --output-compression. By default, enhance encodes videos visually lossless (CRF 17 for H.264)
    #[arg(long, value_enum, default_value = "default", value_name = "NAME")]
    pub output_quality: OutputQuality,

    /// Compression, 0 (smallest file) to 100 (best quality); overrides --output-quality
    #[arg(long, value_name = "0-100", value_parser = value::int_in("output_compression", 0..=100))]
    pub output_compression: Option<u32>,

    /// x264 preset, from ultrafast (largest file) to placebo (smallest) [default: the encoder's]
    #[arg(long, value_name = "NAME", value_parser = x264_preset)]
    pub x264_preset: Option<String>,

    /// Video encoder, by FFmpeg's name [default: the file format's, such as h264 for .mp4]
    #[arg(long, value_name = "NAME")]
    pub codec: Option<String>,

    /// Constant rate factor of the video encoder, at least 0; overrides quality and compression
    #[arg(long, value_name = "N", value_parser = value::non_negative("crf"))]
    pub crf: Option<f64>,

    /// Pixel format of the video, by FFmpeg's name [default: the encoder's nearest to the source's]
    ///
    /// GIF, APNG and WebP become yuv420p where the encoder is lossy: many players show no other H.264 and H.265, and animations
    /// are converted to be shared. yuv444p keeps their colour resolution
    #[arg(long, value_name = "NAME")]
    pub pix_fmt: Option<String>,

    /// Option of the video encoder; repeatable
    #[arg(short = 'e', value_name = "KEY=VALUE", value_parser = value::key_value)]
    pub encoder_options: Vec<(String, String)>,

    /// Replace existing files
    #[arg(short = 'y', long)]
    pub overwrite: bool,

    /// Decode the written file and check its frames and size, and every sample if the format is lossless
    #[arg(long)]
    pub verify: bool,
}

impl EncodingArgs {
    /// The output options with a destination. `target`: the output, if it is one file that is not the destination.
    ///
    /// # Errors
    /// An encoder, a pixel format or a rate factor that FFmpeg does not have, or that do not fit each other.
    pub(crate) fn resolve(self, destination: Destination, target: Option<&Path>) -> Result<Output> {
        let options = VideoOptions {
            codec: self.codec.clone(),
            crf: self.crf,
            pix_fmt: self.pix_fmt.clone(),
            preset: self.x264_preset.clone(),
            ..VideoOptions::default()
        };
        let target = match &destination {
            Destination::File(path) => Some(path.as_path()),
            _ => target,
        };
        check_options(&options, target)?;
        Ok(Output {
            destination,
            overwrite: self.overwrite,
            compression: self.output_compression.map(|n| n as u8).or(self.output_quality.compression()),
            x264_preset: self.x264_preset,
            codec: self.codec,
            crf: self.crf,
            pix_fmt: self.pix_fmt,
            encoder_options: self.encoder_options,
            verify: self.verify,
        })
    }
}

/// Flags of generated files.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct DestinationArgs {
    /// Output folder
    #[arg(long, value_name = "FOLDER", default_value = "outputs/")]
    pub output_path: PathBuf,

    /// File name in --output-path; .png or .mp4 is added if it has no extension [default: from prompt and seed]
    #[arg(long, value_name = "NAME")]
    pub output_file_name: Option<String>,

    /// Output file, or a folder; `-` for standard output
    #[arg(short, long, alias = "output", value_name = "FILE", conflicts_with_all = ["output_path", "output_file_name"])]
    pub output_file_path: Option<PathBuf>,

    /// Save the output (default)
    #[arg(long, overrides_with = "no_save_output")]
    pub save_output: bool,

    /// Do not save the output
    #[arg(long, overrides_with = "save_output")]
    pub no_save_output: bool,
}

impl DestinationArgs {
    /// The destination. Errors: a name with folders, a path without a file name, an unsupported extension, a device without one.
    pub(crate) fn resolve(self) -> Result<Destination> {
        let destination = match (self.no_save_output, self.output_file_path, self.output_file_name) {
            (true, ..) => Destination::Nowhere,
            (_, Some(path), _) if path.as_os_str() == "-" => Destination::StandardOutput,
            (_, Some(path), _) if is_folder_name(&path) || path.is_dir() => Destination::Folder(path),
            (_, Some(path), _) => Destination::File(path),
            (_, None, Some(name)) if name.is_empty() || name.contains('/') => {
                return Err(Error::usage(format!(
                    "--output-file-name must be a name without folders, got {}; use --output-file-path for a path",
                    value::shown(&name)
                )));
            }
            (_, None, Some(name)) => Destination::File(self.output_path.join(name)),
            (_, None, None) => Destination::Folder(self.output_path),
        };
        if let Destination::File(path) = &destination
            && path.file_name().is_none()
        {
            return Err(Error::usage(format!("{} is not a file name", path.display())));
        }
        if let Destination::File(path) = &destination
            && known_extension(path)?.is_none()
            && is_special(path)
        {
            return Err(Error::usage(format!(
                "{} is no regular file, and its name has no extension that gives the format; `-` writes to standard output, \
                 --no-save-output writes nothing",
                path.display()
            )));
        }
        Ok(destination)
    }
}

/// `--output-quality`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputQuality {
    /// 100
    Maximum,
    /// 90
    High,
    /// 55
    Medium,
    /// 35
    Low,
    /// 50 for a generated video, 75 for a generated picture, 95 for an enhanced one
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

    fn output(destination: Destination) -> Output {
        Output { destination, ..Output::default() }
    }

    #[test]
    fn compression() {
        let mut out = output(Destination::Nowhere);
        assert_eq!((out.compression(true), out.compression(false)), (50, 75));
        out.compression = OutputQuality::Low.compression();
        assert_eq!((out.compression(true), out.compression(false)), (35, 35));
    }
}
