//! The input picture or clip of `--image-path`: read and checked before anything slow runs, then encoded.
//!
//! The run starts at the σ of the step that `--strength` selects, as in diffusers' image-to-image and video-to-video pipelines. The
//! latent is the mean of the encoder's distribution. An input of the output size is encoded directly. A smaller one is encoded at its
//! own size, and its latent is zero-padded in the DCT domain. A larger one is downscaled first, with a warning. A picture for a video
//! model is repeated over all frames; a clip is read and encoded frame by frame and never held in memory.
//!
//! Progressive levels stay as they are. Levels that end before the first step are skipped. The latent is cropped in the DCT domain to
//! the size of the first remaining level, which starts at the schedule's σ. Finer detail of the input is below the noise at that σ, by the
//! activation-time rule, and is replaced by new noise when the latent grows.

use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayD, s};

use super::vae_encoder::VaeEncoder;
use crate::{
    error::{At, Error, Result},
    family::{Family, Size},
    media::{
        FileType, PictureFormat, picture,
        resize::{Filter, resize},
        sniff,
        video::{Reader, StreamKind, VideoInfo},
    },
    pipeline::orientation::Orientation,
    progress::{self, Progress, Task, Unit},
    spectral,
    tensor::{Frame, Samples},
};

/// Maximum number of frames of a clip, far more than any model supports.
const MAX_FRAMES: u64 = 2000;
/// The allowed ratio of the aspect ratios of input and output: output sizes are multiples of a patch, input sizes need not be.
const ASPECT_RATIO: std::ops::RangeInclusive<f64> = 0.98..=1.02;

/// An input picture or clip, upright, not yet encoded.
#[derive(Debug)]
pub(super) struct InitImage {
    /// The flag and the path, for messages.
    name: String,
    path: PathBuf,
    pixels: Pixels,
    /// (height, width) as viewed.
    pub size: (usize, usize),
    /// Number of frames; 1 for a picture.
    pub frames: usize,
    /// Frames per second of a clip.
    pub fps: Option<f64>,
    /// Parts of the file that are not used.
    pub left_out: Vec<String>,
}

/// A picture is held; a clip is read again when it is encoded.
#[derive(Debug)]
enum Pixels {
    Still(Array3<f32>),
    Clip { orientation: Orientation },
}

impl InitImage {
    /// Reads a picture, or counts the frames of a clip.
    ///
    /// # Errors
    /// A file that is neither, damaged, or transparent; a clip of too many frames.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = format!("--image-path {}", path.display());
        match sniff(path).at("--image-path")? {
            FileType::Picture(format) => Self::still(path, name, format),
            FileType::Video => Self::clip(path, name),
        }
    }

    fn still(path: &Path, name: String, format: PictureFormat) -> Result<Self> {
        let read = picture::read(path).at("--image-path")?;
        let mut left_out = read.left_out.clone();
        left_out.extend((!read.pages.is_empty()).then(|| "all pages but the first".to_string()));
        if transparent(&read.frame) {
            return Err(transparency_error(&name, format.name()));
        }
        // Pixel values are used as they are, without colour management.
        left_out.extend(read.icc.is_some().then(|| "the colour profile; values are used as sRGB".to_string()));
        let planes = read.frame.planes()?.slice_move(s![..3, .., ..]);
        let planes = Orientation(read.orientation()).upright(planes);
        let size = (planes.dim().1, planes.dim().2);
        Ok(Self { name, path: path.into(), pixels: Pixels::Still(planes), size, frames: 1, fps: None, left_out })
    }

    fn clip(path: &Path, name: String) -> Result<Self> {
        let reader = Reader::open(path).at("--image-path")?.with_alpha();
        let info = reader.info().clone();
        let long = |frames: u64| {
            let trim = format!("trim it to a few seconds, at most {MAX_FRAMES} frames");
            Err(Error::usage(format!("{name} has about {frames} frames, more than any model supports; {trim}")))
        };
        if let Some(frames) = info.frames.filter(|&n| n > MAX_FRAMES) {
            return long(frames);
        }
        let mut frames = 0;
        for frame in reader {
            if transparent(&frame.at("--image-path")?.frame) {
                return Err(transparency_error(&name, "video"));
            }
            frames += 1;
            progress::check()?;
            if frames as u64 > MAX_FRAMES {
                return long(frames as u64);
            }
        }
        let (orientation, left_out) = (Orientation::of_rotation(info.rotation), unused(&info));
        let stored = (info.height, info.width);
        let size = orientation.size(stored);
        let (pixels, fps) = (Pixels::Clip { orientation }, Some(info.frame_rate.value()).filter(|&r| r > 0.0));
        Ok(Self { name, path: path.into(), pixels, size, frames, fps, left_out })
    }

    /// Whether this is a video.
    pub(super) fn is_clip(&self) -> bool {
        matches!(self.pixels, Pixels::Clip { .. })
    }

    /// Checks that a family can start from this input. `frames`: `--num-frames`.
    ///
    /// # Errors
    /// A clip for a family of pictures; a number of frames that the family does not support or that `--num-frames` contradicts;
    /// another aspect ratio than that of the output.
    pub(super) fn check(&self, family: &dyn Family, size: Size, frames: Option<usize>) -> Result<()> {
        let (name, model, own) = (&self.name, family.name(), self.frames);
        let error = |why: String| Err(Error::usage(format!("{name}{why}")));
        if self.is_clip() && !family.is_video() {
            return error(format!(" is a video, and {model} makes single pictures; give one of its frames"));
        }
        if self.is_clip() && frames.is_some_and(|n| n != own) {
            let frames = frames.unwrap_or_default();
            return error(format!(
                " has {own} frames, not --num-frames {frames}; trim the clip or leave out --num-frames"
            ));
        }
        if self.is_clip() && family.check_frames(own).is_err() {
            let below = (1..own).rev().find(|&n| family.check_frames(n).is_ok()).unwrap_or(1);
            return error(format!(" has {own} frames, which {model} does not support; trim it to {below}"));
        }
        let ((h, w), Size { height, width, .. }) = (self.size, size);
        if ASPECT_RATIO.contains(&((h * width) as f64 / (w * height) as f64)) {
            return Ok(());
        }
        let multiple = family.vae_scale_factor() * family.patch_size();
        let fits = (width as f64 * h as f64 / w as f64 / multiple as f64).round().max(1.0) as usize * multiple;
        error(format!(
            " has {w}×{h} pixels, another aspect ratio than {width}×{height}; crop it, or use a size such as {width}×{fits}"
        ))
    }

    /// (height, width) at which it is encoded for an output of `size`: its size, at most that of the output, rounded to latent pixels.
    pub(super) fn encoded_size(&self, factor: usize, size: Size) -> (usize, usize) {
        let snap = |n: usize, most: usize| (n.div_ceil(factor) * factor).min(most);
        (snap(self.size.0, size.height), snap(self.size.1, size.width))
    }

    /// Warnings for an output of `size`: what is left out, and any resampling.
    pub(super) fn notes(&self, family: &dyn Family, size: Size) -> Vec<String> {
        let name = &self.name;
        let mut notes: Vec<String> = self.left_out.iter().map(|what| format!("{name}: left out: {what}")).collect();
        let ((h, w), (eh, ew)) = (self.size, self.encoded_size(family.vae_scale_factor(), size));
        if (h, w) != (eh, ew) {
            let how = if h > eh || w > ew { "downscaled" } else { "upscaled" };
            notes.push(format!("{name}: {w}×{h} pixels are {how} to {ew}×{eh} before encoding"));
        }
        notes
    }

    /// Planes [3, h, w] in 0..=1, resampled to (`height`, `width`). A picture is repeated `repeat` times.
    fn planes(&self, (height, width): (usize, usize), repeat: usize) -> Result<Pictures> {
        let fit = move |planes: &Array3<f32>| resize(planes, height, width, Filter::Bicubic);
        match &self.pixels {
            Pixels::Still(planes) => {
                let planes = fit(planes)?;
                Ok(Box::new(std::iter::repeat_with(move || Ok(planes.clone())).take(repeat)))
            }
            Pixels::Clip { orientation } => {
                let (reader, orientation) = (Reader::open(&self.path)?, *orientation);
                Ok(Box::new(reader.map(move |f| fit(&orientation.upright(f?.frame.planes()?)))))
            }
        }
    }

    /// The normalized latent at the full size of the output.
    pub(super) fn latent(
        &self,
        encoder: &mut VaeEncoder<'_>,
        size: Size,
        progress: &dyn Progress,
    ) -> Result<ArrayD<f32>> {
        let mut task = Task::new(progress, "encode", Some(size.frames as u64), Unit::Frames);
        let pictures = self.planes(self.encoded_size(encoder.family().vae_scale_factor(), size), size.frames)?;
        let mut pictures = pictures.map(|planes| task.step(1).and(planes));
        let latent = if encoder.family().is_video() {
            encoder.video(&mut pictures)
        } else {
            let empty = || Err(Error::failed("it contains no picture"));
            pictures.next().unwrap_or_else(empty).and_then(|planes| encoder.picture(&planes))
        };
        let shape = encoder.family().latent_shape(size);
        spectral::resized(&latent.at(&self.name)?, (shape[shape.len() - 2], shape[shape.len() - 1]))
    }
}

type Pictures = Box<dyn Iterator<Item = Result<Array3<f32>>>>;

fn transparency_error(name: &str, what: &str) -> Error {
    let why = "has transparent pixels, which models do not support";
    Error::usage(format!("{name}: the {what} {why}; flatten it onto a background first"))
}

fn transparent(frame: &Frame) -> bool {
    let alpha = |n: usize| n % 4 == 3;
    frame.channels == 4
        && match &frame.samples {
            Samples::U8(s) => s.iter().enumerate().any(|(n, &v)| alpha(n) && v < u8::MAX),
            Samples::U16(s) => s.iter().enumerate().any(|(n, &v)| alpha(n) && v < u16::MAX),
        }
}

/// Parts of a video that are not used.
fn unused(info: &VideoInfo) -> Vec<String> {
    let has = |kind| info.streams.iter().any(|s| s.kind == kind);
    let aspect = info.sample_aspect_ratio;
    [
        (has(StreamKind::Audio), "audio"),
        (has(StreamKind::Subtitle), "subtitles"),
        (info.variable_rate, "the durations of frames; the average rate is used"),
        (aspect.is_known() && aspect.num != aspect.den, "the sample aspect ratio; pixels are used as square"),
        (!info.rotation.is_multiple_of(90), "its rotation, which is not a multiple of 90°"),
    ]
    .into_iter()
    .filter(|(applies, _)| *applies)
    .map(|(_, what)| what.to_string())
    .collect()
}
