//! A start from a picture or a clip: read and judged before anything heavy is done, then encoded, and its latent resized in the
//! frequency domain.
//!
//! What encodes knows nothing of a plan: planes in, latent out.

use std::path::{Path, PathBuf};

use ndarray::{Array3, ArrayD, Axis, s};

use crate::pipeline::context::{Context, Role};
use crate::{
    compile::Subgraph,
    error::{At, Error, Result},
    family::{Family, Size},
    media::{
        FileType, PictureFormat,
        picture::{self},
        resize::{Filter, resize},
        sniff,
        video::{Reader, StreamKind, VideoInfo},
    },
    model::ModelFolder,
    onnx::Model,
    progress::{self, Progress, Task, Unit},
    runtime::Network,
    spectral,
    stage::vae::{self, Tiling, VideoEncoder},
    tensor::{Frame, Samples},
};

/// The longest clip that is read to the end to count its frames; far beyond what a transformer can attend to.
const LONGEST: u64 = 2000;
/// How far the shapes of start and result may differ: sizes are multiples of patches, and pictures seldom are.
const STRETCH: std::ops::RangeInclusive<f64> = 0.98..=1.02;

/// A picture or clip to start from, upright, not yet encoded.
#[derive(Debug)]
pub struct InitImage {
    /// Where it stands, for messages.
    place: String,
    path: PathBuf,
    pixels: Pixels,
    /// (height, width) as viewed.
    pub size: (usize, usize),
    /// Pictures; 1 of a still one.
    pub frames: usize,
    /// Of a clip: frames a second.
    pub fps: Option<f64>,
    /// What of the file is not used, a phrase each.
    pub left_out: Vec<String>,
}

/// Planes of a still picture; a clip is read when it is encoded, and not held.
#[derive(Debug)]
enum Pixels {
    Still(Array3<f32>),
    Clip { orientation: u8 },
}

impl InitImage {
    /// Reads a picture, or counts a clip's frames. Errors: neither of both, damaged, transparent, a film.
    pub fn open(path: &Path) -> Result<Self> {
        let place = format!("--image-path {}", path.display());
        match sniff(path).at("--image-path")? {
            FileType::Picture(format) => Self::still(path, place, format),
            FileType::Video => Self::clip(path, place),
        }
    }

    fn still(path: &Path, place: String, format: PictureFormat) -> Result<Self> {
        let read = picture::read(path).at("--image-path")?;
        let mut left_out = read.left_out.clone();
        if transparent(&read.frame) {
            return Err(see_through(&place, format.name()));
        }
        // Values stay as they are; what the profile says of them is not asked.
        left_out.extend(read.icc.is_some().then(|| "the colour profile; values are taken as sRGB".to_string()));
        let planes = read.frame.planes().slice_move(s![..3, .., ..]);
        let planes = upright(planes, read.orientation());
        let size = (planes.dim().1, planes.dim().2);
        Ok(Self { place, path: path.into(), pixels: Pixels::Still(planes), size, frames: 1, fps: None, left_out })
    }

    fn clip(path: &Path, place: String) -> Result<Self> {
        let reader = Reader::open(path).at("--image-path")?.with_alpha();
        let info = reader.info().clone();
        let long = |frames: u64| {
            let cut = format!("cut it to a few seconds, at most {LONGEST} frames");
            Err(Error::usage(format!("{place} has about {frames} frames, which no model makes in one piece; {cut}")))
        };
        if let Some(frames) = info.frames.filter(|&n| n > LONGEST) {
            return long(frames);
        }
        let mut frames = 0;
        for frame in reader {
            if transparent(&frame.at("--image-path")?.frame) {
                return Err(see_through(&place, "video"));
            }
            frames += 1;
            progress::check()?;
            if frames as u64 > LONGEST {
                return long(frames as u64);
            }
        }
        let (orientation, left_out) = (turn(&info), unused(&info));
        let stored = (info.height, info.width);
        let size = if orientation > 4 { (stored.1, stored.0) } else { stored };
        let (pixels, fps) = (Pixels::Clip { orientation }, Some(info.frame_rate.value()).filter(|&r| r > 0.0));
        Ok(Self { place, path: path.into(), pixels, size, frames, fps, left_out })
    }

    /// Whether this is a video.
    pub fn is_clip(&self) -> bool {
        matches!(self.pixels, Pixels::Clip { .. })
    }

    /// Refuses what a family cannot start from: a clip where it makes pictures, a number of frames that it cannot do or that
    /// `--num-frames` contradicts, another shape than the result's.
    pub fn check(&self, family: &dyn Family, size: Size, asked: Option<usize>) -> Result<()> {
        let (place, name, frames) = (&self.place, family.name(), self.frames);
        let refused = |why: String| Err(Error::usage(format!("{place}{why}")));
        if self.is_clip() && !family.is_video() {
            return refused(format!(" is a video, and {name} makes single pictures; give one of its frames"));
        }
        if self.is_clip() && asked.is_some_and(|n| n != frames) {
            let asked = asked.unwrap_or_default();
            return refused(format!(
                " has {frames} frames, not --num-frames {asked}; cut the one or leave the other out"
            ));
        }
        if self.is_clip() && family.check_frames(frames).is_err() {
            let below = (1..frames).rev().find(|&n| family.check_frames(n).is_ok()).unwrap_or(1);
            return refused(format!(" has {frames} frames, a number that {name} cannot do; cut it to {below}"));
        }
        let ((h, w), Size { height, width, .. }) = (self.size, size);
        if STRETCH.contains(&((h * width) as f64 / (w * height) as f64)) {
            return Ok(());
        }
        let multiple = family.vae_scale_factor() * family.patch_size();
        let fits = (width as f64 * h as f64 / w as f64 / multiple as f64).round().max(1.0) as usize * multiple;
        refused(format!(
            " has {w}×{h} pixels, of another shape than {width}×{height}; crop it, or ask for {width}×{fits} or so"
        ))
    }

    /// (height, width) that it is encoded at for a result of `size`: its own, at most that of the result, in whole latent pixels.
    pub fn encoded(&self, factor: usize, size: Size) -> (usize, usize) {
        let snap = |n: usize, most: usize| (n.div_ceil(factor) * factor).min(most);
        (snap(self.size.0, size.height), snap(self.size.1, size.width))
    }

    /// What a person should know of its way to a result of `size`: what is left out, and any resampling.
    pub fn notes(&self, family: &dyn Family, size: Size) -> Vec<String> {
        let place = &self.place;
        let mut notes: Vec<String> = self.left_out.iter().map(|what| format!("{place}: left out: {what}")).collect();
        let ((h, w), (eh, ew)) = (self.size, self.encoded(family.vae_scale_factor(), size));
        if (h, w) != (eh, ew) {
            let how = if h > eh || w > ew { "reduced" } else { "enlarged" };
            notes.push(format!("{place}: {w}×{h} pixels are {how} to {ew}×{eh} before they are encoded"));
        }
        notes
    }

    /// Planes [3, h, w] in 0..=1, resampled to (`height`, `width`); those of a still picture `repeat` times.
    fn planes(&self, (height, width): (usize, usize), repeat: usize) -> Result<Frames> {
        let fit = move |planes: &Array3<f32>| resize(planes, height, width, Filter::Bicubic);
        match &self.pixels {
            Pixels::Still(planes) => {
                let planes = fit(planes)?;
                Ok(Box::new(std::iter::repeat_with(move || Ok(planes.clone())).take(repeat)))
            }
            Pixels::Clip { orientation } => {
                let (reader, orientation) = (Reader::open(&self.path)?, *orientation);
                Ok(Box::new(reader.map(move |f| fit(&upright(f?.frame.planes(), orientation)))))
            }
        }
    }

    /// The latent at the result's full size, scaled as the transformer takes it. What is as large as the result is encoded as it is;
    /// what is smaller is encoded at its own size and its latent grown in the frequency domain; what is larger is reduced first.
    pub fn latent(&self, encoder: &mut Encoder<'_>, size: Size, watcher: &dyn Progress) -> Result<ArrayD<f32>> {
        let mut task = Task::new(watcher, "encode", Some(size.frames as u64), Unit::Frames);
        let pictures = self.planes(self.encoded(encoder.family.vae_scale_factor(), size), size.frames)?;
        let mut pictures = pictures.map(|planes| task.step(1).and(planes));
        let latent = if encoder.family.is_video() {
            encoder.video(&mut pictures)
        } else {
            let nothing = || Err(Error::failed("it holds no picture"));
            pictures.next().unwrap_or_else(nothing).and_then(|planes| encoder.picture(&planes))
        };
        let shape = encoder.family.latent_shape(size);
        spectral::resized(&latent.at(&self.place)?, (shape[shape.len() - 2], shape[shape.len() - 1]))
    }
}

type Frames = Box<dyn Iterator<Item = Result<Array3<f32>>>>;

fn see_through(place: &str, what: &str) -> Error {
    let why = "has transparent pixels, behind which a model sees nothing";
    Error::usage(format!("{place}: the {what} {why}; flatten it onto a background first"))
}

fn transparent(frame: &Frame) -> bool {
    let alpha = |n: usize| n % 4 == 3;
    frame.channels == 4
        && match &frame.samples {
            Samples::U8(s) => s.iter().enumerate().any(|(n, &v)| alpha(n) && v < u8::MAX),
            Samples::U16(s) => s.iter().enumerate().any(|(n, &v)| alpha(n) && v < u16::MAX),
        }
}

/// A video's rotation as an orientation; others than by quarters are left as stored.
fn turn(info: &VideoInfo) -> u8 {
    match info.rotation {
        90 => 6,
        180 => 3,
        270 => 8,
        _ => 1,
    }
}

fn unused(info: &VideoInfo) -> Vec<String> {
    let has = |kind| info.streams.iter().any(|s| s.kind == kind);
    let aspect = info.sample_aspect_ratio;
    [
        (has(StreamKind::Audio), "sound"),
        (has(StreamKind::Subtitle), "subtitles"),
        (info.variable_rate, "the frames' own lengths; the average rate is used throughout"),
        (aspect.is_known() && aspect.num != aspect.den, "the shape of its pixels, which are taken as square"),
        (!info.rotation.is_multiple_of(90), "its rotation, which is not by quarters"),
    ]
    .into_iter()
    .filter(|(is, _)| *is)
    .map(|(_, what)| what.to_string())
    .collect()
}

/// Stored planes as they are viewed; `orientation` as in [`picture::Picture::orientation`].
pub(in crate::pipeline) fn upright(mut planes: Array3<f32>, orientation: u8) -> Array3<f32> {
    if orientation > 4 {
        planes.swap_axes(1, 2);
    }
    if matches!(orientation, 2 | 3 | 6 | 7) {
        planes.invert_axis(Axis(2));
    }
    if matches!(orientation, 3 | 4 | 7 | 8) {
        planes.invert_axis(Axis(1));
    }
    planes.as_standard_layout().into_owned()
}

/// The graphs of an autoencoder's encoding half.
#[derive(Debug)]
pub struct EncoderGraphs {
    first: Model,
    later: Option<Model>,
}

impl EncoderGraphs {
    /// Writes them.
    pub fn new(folder: &ModelFolder, family: &dyn Family, cx: &Context<'_>) -> Result<Self> {
        let graph = |part| cx.graph(folder, "vae", part, Role::Exact);
        Ok(Self {
            first: graph(Subgraph::Encoder)?,
            later: family.is_video().then(|| graph(Subgraph::CachedEncoder)).transpose()?,
        })
    }
}

/// A loaded encoder: pictures → latents as the transformer takes them, [1, c, h, w] or [1, c, t, h, w], the mean of the distribution.
pub struct Encoder<'a> {
    family: &'a dyn Family,
    network: Half,
    tiling: Option<Tiling>,
}

enum Half {
    Picture(Network),
    Video(Box<VideoEncoder>),
}

impl<'a> Encoder<'a> {
    /// Loads it.
    pub fn load(
        graphs: &EncoderGraphs,
        family: &'a dyn Family,
        tiling: Option<Tiling>,
        cx: &Context<'_>,
    ) -> Result<Self> {
        let load = |graph| cx.load_large("vae encoder", graph);
        let first = load(&graphs.first)?;
        let network = match &graphs.later {
            Some(later) => Half::Video(Box::new(VideoEncoder::new(first, load(later)?, tiling)?)),
            None => Half::Picture(first),
        };
        Ok(Self { family, network, tiling })
    }

    /// Planes [3, h, w] in 0..=1, whose extents are multiples of the family's factor.
    pub fn picture(&mut self, planes: &Array3<f32>) -> Result<ArrayD<f32>> {
        let mean = match &mut self.network {
            Half::Picture(network) => vae::encode(network, planes, self.tiling)?,
            Half::Video(video) => video.encode(&mut std::iter::once(Ok(planes.clone())))?,
        };
        Ok(self.family.normalize(&mean))
    }

    /// The pictures of a clip in order, as many as the family can do, each as in [`Encoder::picture`].
    pub fn video(&mut self, pictures: &mut dyn Iterator<Item = Result<Array3<f32>>>) -> Result<ArrayD<f32>> {
        match &mut self.network {
            Half::Picture(_) => {
                Err(Error::failed(format!("{} encodes single pictures, and got a clip", self.family.name())))
            }
            Half::Video(video) => Ok(self.family.normalize(&video.encode(pictures)?)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use image::{DynamicImage, RgbImage, metadata::Orientation};

    use super::*;

    /// Against the image crate's own turning.
    #[test]
    fn upright_is_what_viewers_show() {
        let stored = RgbImage::from_fn(3, 2, |x, y| image::Rgb([x as u8, y as u8, 7]));
        let frame = |i: &RgbImage| Frame {
            width: i.width() as usize,
            height: i.height() as usize,
            channels: 3,
            samples: Samples::U8(i.as_raw().clone()),
        };
        let mut wrong = Vec::new();
        for orientation in 1..=8 {
            let mut viewed = DynamicImage::from(stored.clone());
            viewed.apply_orientation(Orientation::from_exif(orientation).unwrap());
            let turned = upright(frame(&stored).planes(), orientation);
            if turned != frame(&viewed.to_rgb8()).planes() {
                wrong.push(orientation);
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
