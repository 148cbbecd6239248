//! Maps source times to output times for a video, and names the points where a run can resume.
//!
//! [`Timeline`] decides what each output frame shows; [`InterpolationStage`](super::interpolation::InterpolationStage) makes it. The rules are
//! those of [`stage::timeline`](crate::stage::timeline). 23.976, 29.97 and 59.94 mean NTSC's 24000/1001 and so on. 2x, 4x, 8x and
//! 16x are midpoints of midpoints, as published for `--frame-interpolation-exp`; any other factor, and gaps over repeats, request
//! the times from RIFE directly. With `--dedup`, repeats are interpolated over if the distinct frames around them are at most 0.25 s
//! apart. Streams keep their offsets, and audio is never changed.

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    media::video::{Rational, Timing},
    plan::{Interpolation, MAX_FACTOR, Rate},
    stage::{
        interpolate::Planes,
        timeline::{OutputRate, Timeline, TimelineState},
    },
};

/// Seconds: the longest gap between distinct frames over which `--dedup` interpolates.
const MAX_GAP: f64 = 0.25;

/// Seconds by which time stamps are rounded at most: those of Matroska are whole milliseconds.
const ROUNDING: f64 = 0.5e-3;

/// A decoded frame with its time.
#[derive(Clone)]
pub(crate) struct SourceFrame {
    /// The pixels.
    pub frame: Planes,
    /// In ticks of [`Timing`].
    pub pts: i64,
    /// In ticks of [`Timing`]. Only that of the last frame is used.
    pub duration: i64,
    /// The time stamp in the stream.
    pub stamp: i64,
}

/// An output frame with its time, in output ticks.
pub(crate) struct OutputFrame<T> {
    pub frame: T,
    pub pts: i64,
    pub duration: i64,
    /// Set on the first frame of a chunk: the state to resume from here.
    pub resume_point: Option<Box<ResumePoint>>,
}

/// Everything that a later run needs to continue before an output frame. The pixels it needs are decoded again. The serialized
/// field names are part of the journal format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ResumePoint {
    /// Time stamp of the output frame.
    pub(super) from: i64,
    /// Number of the next source frame.
    pub number: u64,
    /// Position of the source frame before it.
    pub before: i64,
    /// Number of the last distinct source frame.
    pub anchor: u64,
    /// Its time stamp in the stream.
    pub stamp: i64,
    /// [`media::hash`](crate::media::hash) of its planes.
    pub hash: String,
    /// Duration in ticks of the source frame before `number`, used if it is the last.
    pub(super) last: i64,
    /// Bits of [`ChangeDetector::usual`](crate::stage::scene_change::ChangeDetector::usual).
    pub(super) usual: u32,
    #[serde(rename = "standing")]
    pub(super) timeline: TimelineState,
}

/// The times of an output, and how its frames are found.
#[derive(Debug, Clone)]
pub(crate) struct Retime {
    pub(super) timeline: Timeline,
    /// Frames per second: exact, or the average if frames have different durations.
    pub rate: Rational,
    /// Seconds per output tick.
    pub tick: Rational,
    /// Number of output frames.
    pub frames: u64,
    /// Scene-change threshold.
    pub(super) threshold: f32,
    pub(super) dedup: bool,
    /// log2 of the factor, if all frames of a gap are midpoints of midpoints.
    pub(super) halvings: Option<u32>,
    /// Output ticks per chunk; `None`: no chunks.
    pub(super) chunk: Option<f64>,
    /// Where to resume, and the pixels of the last distinct frame there; `None`: at the beginning.
    pub(super) resume: Option<(ResumePoint, Planes)>,
}

impl Retime {
    /// The output times of a video. Without `interpolation` they are the source's.
    ///
    /// # Errors
    /// A factor that time stamps cannot represent.
    pub(super) fn new(interpolation: Option<&Interpolation>, timing: &Timing) -> Result<Self> {
        let near = if timing.steady { 0.0 } else { (ROUNDING / timing.tick.value()).min(0.5) };
        let hold = (MAX_GAP / timing.tick.value() + 1e-6) as i64;
        let timeline = |rate| Timeline::new(rate, near, hold);
        let unchanged = Self {
            timeline: timeline(OutputRate::Keep),
            rate: timing.rate,
            tick: timing.tick,
            frames: timing.frames,
            threshold: 1.0,
            dedup: false,
            halvings: None,
            chunk: None,
            resume: None,
        };
        let Some(interpolation) = interpolation else { return Ok(unchanged) };
        check_factor(interpolation, timing.rate)?;
        let retimed = Self {
            threshold: interpolation.scene_threshold as f32,
            dedup: interpolation.dedup,
            halvings: interpolation.rate.exp(),
            ..unchanged
        };
        match interpolation.rate {
            Rate::Times(n) => {
                let fits = |r: Rational| i64::from(r.num) * i64::from(n) <= i64::from(i32::MAX);
                let (rate, per_second) = (timing.rate, timing.tick.inverse());
                if !fits(rate) || !fits(per_second) {
                    let most = i32::MAX / rate.num.max(per_second.num);
                    return Err(Error::usage(format!(
                        "--interpolate {n}x: the time stamps of this video allow at most {most}x"
                    )));
                }
                let frames = timing.frames.saturating_sub(1) * u64::from(n) + 1;
                let (rate, tick) = (rate.times(n as i32), per_second.times(n as i32).inverse());
                Ok(Self { timeline: timeline(OutputRate::Times(n)), rate, tick, frames, ..retimed })
            }
            Rate::Fps(fps) => {
                let rate = Rational::of_rate(fps);
                let num = i64::from(timing.tick.num) * i64::from(rate.num);
                let den = i64::from(timing.tick.den) * i64::from(rate.den);
                let common = gcd(num, den).max(1);
                let (num, den) = (num / common, den / common);
                let length = (timing.end + timing.last) as f64 * num as f64 / den as f64;
                let frames = if timing.frames == 1 { 1 } else { length.round().max(1.0) as u64 };
                let timeline = timeline(OutputRate::Grid { num, den });
                Ok(Self { timeline, rate, tick: rate.inverse(), frames, ..retimed })
            }
        }
    }

    /// The same, in chunks of `seconds`.
    #[must_use]
    pub(super) fn in_chunks(self, seconds: f64) -> Self {
        Self { chunk: Some(seconds / self.tick.value()), ..self }
    }

    /// The same, resumed at `point`. `anchor`: the pixels of the last distinct frame.
    #[must_use]
    pub(super) fn resume_at(self, point: ResumePoint, anchor: Planes) -> Self {
        Self { resume: Some((point, anchor)), ..self }
    }
}

/// Refuses a factor above [`MAX_FACTOR`] without `--force`.
fn check_factor(interpolation: &Interpolation, source: Rational) -> Result<()> {
    let (typed, factor) = match interpolation.rate {
        Rate::Times(n) => (format!("{n}x"), f64::from(n)),
        Rate::Fps(fps) => (format!("{fps}fps"), fps / source.value()),
    };
    if factor <= MAX_FACTOR + 1e-9 || interpolation.force {
        return Ok(());
    }
    Err(Error::usage(format!(
        "--interpolate {typed} makes {factor:.0} frames of each frame; give a factor of at most {MAX_FACTOR}, or --force"
    )))
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { gcd(b, a % b) }
}
