//! Memory of one input of `enhance`, phase by phase, from headers.

use std::path::Path;

use super::{bands, sizes::picture_sizes};
use crate::{
    compile,
    error::Result,
    media::{PictureFormat, picture::Header},
    onnx::Target,
    pipeline::{
        memory::{PLANES, Phase, SESSION, check, peak, pixels},
        postprocess::UpscaleForm,
        stream::Networks,
    },
    plan::EnhancePlan,
    stage::upscale::UpscaleOptions,
};

/// Frames that wait or are processed between decoding and upscaling: two queues of two, one in each stage, and the last distinct one.
const SOURCE_FRAMES: u64 = 7;
/// Finished frames that wait for the encoder, are made or are encoded.
const OUTPUT_FRAMES: u64 = 4;
/// Pictures that a decoder of H.264 or HEVC keeps, in YUV 4:2:0.
const DECODED_FRAMES: u64 = 16;
/// Frames of x264's default lookahead, and its references.
const LOOKAHEAD: u64 = 48;
/// Tenths of a byte per pixel of a frame in the lookahead: YUV 4:2:0, a quarter-size copy in four phases, motion vectors.
const LOOKAHEAD_TENTHS: u64 = 33;
/// Tenths of a byte per pixel of the encoder's references and reconstructed pictures.
const REFERENCE_TENTHS: u64 = 80;
/// Contexts of both codecs and the heaps of their threads, with 8-bit samples.
const CODECS: u64 = 36_000_000;
/// Pairs of frames that the interpolation network gets at once.
const PAIRS: u64 = 1;

/// The networks of an enhance plan, as far as memory needs them.
#[derive(Debug, Clone, Default)]
pub(super) struct NetworkForms {
    /// `None`: no upscaling, or a network without headers.
    pub upscale: Option<UpscaleForm>,
    /// Activation bytes per pixel of the interpolation network; 0: none.
    pub interpolation: u64,
}

/// Which tiles a forecast takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tiles {
    /// Those that the run chooses.
    Chosen,
    /// The smallest.
    Smallest,
}

fn options(form: &UpscaleForm, size: (usize, usize), held: u64, tiles: Tiles) -> UpscaleOptions {
    match tiles {
        Tiles::Chosen => form.tiles(size, held),
        Tiles::Smallest => form.smallest_tiles(size),
    }
}

/// The peak of one picture, without the networks of a refinement, and whether it is processed in bands: if it does not fit as a
/// whole. `form`: that of the upscaler, if there is one.
pub(super) fn picture(
    source: (&Header, &Path),
    output: &Path,
    plan: &EnhancePlan,
    form: Option<&UpscaleForm>,
    tiles: Tiles,
) -> (Phase, bool) {
    let smallest = whole(source, output, plan, form, Tiles::Smallest);
    let fits = check(&smallest, plan.runtime.engine.memory_limit).is_ok();
    let banded = if fits { None } else { bands::forecast(source, output, plan, form, tiles == Tiles::Smallest) };
    match banded {
        Some(banded) if banded.bytes() < smallest.bytes() => (banded, true),
        _ if tiles == Tiles::Smallest => (smallest, false),
        _ => (whole(source, output, plan, form, tiles), false),
    }
}

/// The peak of one picture that is held whole.
fn whole(
    (header, path): (&Header, &Path),
    output: &Path,
    plan: &EnhancePlan,
    form: Option<&UpscaleForm>,
    tiles: Tiles,
) -> Phase {
    let jobs = plan.concurrent_jobs();
    let times = |bytes: u64| bytes.saturating_mul(jobs);
    let size = (header.height, header.width);
    let target = picture_sizes(plan, size).last().map_or(size, |row| (row.height, row.width));
    let source = times(header.frame_bytes());
    let samples = if header.deep { 2 * header.channels } else { header.channels } as u64;
    let output_bytes = times(pixels(target).saturating_mul(samples));
    let file = times(std::fs::metadata(path).map_or(0, |data| data.len()));
    let wide = if header.deep { source } else { 0 };
    let decode = Phase::default().with("file", file).with("decoded picture", source).with("16-bit samples", wide);
    let direct = plan.refine.is_none() && header.channels == 3 && form.is_some_and(|form| form.is_direct(size));
    let planes = match form {
        _ if direct => 0,
        Some(form) if plan.refine.is_none() => times(form.plane_bytes(size, header.channels)),
        // A refinement holds a picture at the final size, and the same before the last pass.
        _ => times(pixels(size).max(pixels(target)).saturating_mul(2 * PLANES)),
    };
    let frames = if direct { source.saturating_add(output_bytes) } else { 0 };
    let network =
        form.map_or(0, |form| form.network_bytes(options(form, size, planes.saturating_add(frames), tiles), size));
    let upscale = match direct {
        true => Phase::default().with("decoded picture", source).with("output picture", output_bytes),
        false => Phase::default().with("f32 planes", planes),
    };
    let upscale = upscale.with("network and its tiles", network);
    // Without a limit, the arena of a network and the heap of a filter keep their memory.
    let arena = if plan.runtime.engine.memory_limit.is_some() { 0 } else { network };
    let whole_planes = if direct { 0 } else { times(pixels(target).saturating_mul(4 * header.channels as u64)) };
    let convert = Phase::default()
        .with("f32 planes", whole_planes)
        .with("output picture", output_bytes)
        .with("network and its tiles", arena);
    let encode = Phase::default()
        .with("output picture", output_bytes)
        .with("encoded picture", encoded_bytes(output, output_bytes, header.deep))
        .with("network and its tiles", arena);
    peak([decode, upscale, convert, encode])
}

/// Estimate of the bytes of an encoded picture, by its format: lossless compression saves about half, of 16-bit samples a fifth, lossy
/// nine tenths.
fn encoded_bytes(output: &Path, bytes: u64, deep: bool) -> u64 {
    match PictureFormat::of_name(output) {
        Ok(PictureFormat::Png) if deep => bytes / 5 * 4,
        Ok(PictureFormat::Png) => bytes / 2,
        Ok(PictureFormat::Tiff | PictureFormat::Bmp) => bytes,
        _ => bytes / 10,
    }
}

/// A video, as far as memory needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clip {
    /// Height and width of the source.
    pub size: (usize, usize),
    /// Frames of the output.
    pub frames: u64,
    /// Channels of a frame: 3, or 4 with transparency.
    pub channels: usize,
    /// Whether samples have more than 8 bits.
    pub deep: bool,
}

/// Bytes of a video's frames and codecs, without networks.
fn video_frames(clip: Clip, target: (usize, usize), jobs: u64) -> Phase {
    let (source, target, depth) = (pixels(clip.size), pixels(target), if clip.deep { 2 } else { 1 });
    let (planes, bytes) = (4 * clip.channels as u64, clip.channels as u64 * depth);
    let encoder = (LOOKAHEAD_TENTHS * clip.frames.min(LOOKAHEAD) + REFERENCE_TENTHS) * depth;
    let times = |bytes: u64| bytes.saturating_mul(jobs);
    Phase::default()
        .with("decoder", times(source.saturating_mul(DECODED_FRAMES * depth) / 2 * 3))
        .with("source frames", times(source.saturating_mul(planes * SOURCE_FRAMES)))
        .with("f32 planes", times(target.saturating_mul(planes)))
        .with("output frames", times(target.saturating_mul(bytes * OUTPUT_FRAMES)))
        .with("encoder", times((target / 10).saturating_mul(encoder)))
        .with("codecs", times(CODECS * depth))
}

/// What the stages of a video hold besides the upscaling network.
pub(super) fn streams(clip: Clip, target: (usize, usize), plan: &EnhancePlan, forms: &NetworkForms) -> Phase {
    let jobs = plan.concurrent_jobs();
    let interpolation = match forms.interpolation {
        0 => 0,
        bytes => pixels(clip.size).saturating_mul(bytes * PAIRS).saturating_add(SESSION),
    };
    video_frames(clip, target, jobs).with("interpolation network", interpolation)
}

/// The peak of one video.
pub(super) fn video(clip: Clip, plan: &EnhancePlan, forms: &NetworkForms, tiles: Tiles) -> Phase {
    let size = clip.size;
    let target = forms.upscale.as_ref().map_or(size, |form| form.output_size(size));
    let held = streams(clip, target, plan, forms);
    let upscale = forms.upscale.as_ref().map_or(0, |form| {
        let options = options(form, size, held.bytes().saturating_add(form.plane_bytes(size, clip.channels)), tiles);
        form.network_bytes(options, size)
    });
    held.with("upscaling network and its tiles", upscale)
}

/// The forms of loaded networks.
pub(super) fn loaded(networks: &Networks) -> NetworkForms {
    NetworkForms {
        upscale: networks.upscale.as_ref().map(|upscaler| upscaler.form().clone()),
        interpolation: networks.interpolate.as_ref().map_or(0, |network| network.pixel_bytes),
    }
}

/// The forms of a plan's networks, from headers.
///
/// # Errors
/// A file of the wrong kind.
pub(super) fn forms(plan: &EnhancePlan) -> Result<NetworkForms> {
    let limit = plan.runtime.engine.memory_limit;
    let upscale = plan.upscaling.as_ref().map(|u| UpscaleForm::read(u, limit)).transpose()?.flatten();
    let interpolation = match &plan.interpolation {
        Some(i) if i.model.path.is_file() => {
            compile::interpolator(&i.model.path, i.scale as f32, Target::CPU)?.pixel_bytes as u64
        }
        _ => 0,
    };
    Ok(NetworkForms { upscale, interpolation })
}
