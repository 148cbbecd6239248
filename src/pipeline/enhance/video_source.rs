//! The frames of an input: a video file or a time range of it, or numbered pictures; from the beginning or from a resume point.
//!
//! With `--start` and `--end`, in seconds from the beginning of the container, the video consists of the frames whose display begins
//! in that range. Audio is cut between packets, subtitles and chapters are trimmed, and all of them keep their common offset.

use std::path::{Path, PathBuf};

use super::{concealed::Concealed, decoding::Decoding};
use crate::{
    error::{Error, Result},
    media::{
        self, FileFormat, picture,
        video::{Rational, Reader, TimeRange, Timing, VideoInfo},
    },
    pipeline::{
        orientation::Orientation,
        retime::{ResumePoint, SourceFrame},
    },
    plan::{EnhancePlan, Input, Trim},
    stage::interpolate::Planes,
    tensor::Frame,
};

/// Decoded frames in order.
pub(super) type Frames<'a> = Box<dyn Iterator<Item = Result<SourceFrame>> + Send + 'a>;

/// An input that can be decoded more than once.
pub(super) enum VideoSource<'a> {
    /// A video or an animated picture.
    Video {
        path: &'a Path,
        /// As the frames are after turning.
        info: Box<VideoInfo>,
        timing: Timing,
        part: Option<TimeRange>,
        /// How frames are turned, if the output cannot store a rotation.
        turn: Orientation,
        /// Whether frames that do not decode repeat the one before them.
        conceal: bool,
    },
    /// Numbered pictures at a rate.
    Pictures { pattern: &'a Path, files: &'a [PathBuf], first_picture: FirstPicture<'a>, timing: Timing },
}

/// The timing of a video, or of the range of `trim`.
pub(super) fn timing(path: &Path, trim: &Trim) -> Result<(Timing, Option<TimeRange>)> {
    if trim.start.is_none() && trim.end.is_none() {
        return Timing::read(path).map(|timing| (timing, None));
    }
    Timing::read_range(path, trim.start, trim.end).map(|(timing, part)| (timing, Some(part)))
}

/// The numbered pictures in the range of the plan, and their timing.
pub(super) fn pictures<'a>(
    pattern: &Path,
    files: &'a [PathBuf],
    plan: &EnhancePlan,
) -> Result<(&'a [PathBuf], Timing)> {
    let rate = Rational::of_rate(plan.fps.unwrap_or(25.0));
    let (name, end) = (pattern.display(), files.len() as f64 / rate.value());
    let near = 1e-6;
    for (flag, at) in [("--start", plan.trim.start), ("--end", plan.trim.end)] {
        if let Some(at) = at.filter(|at| *at > end + near) {
            return Err(Error::failed(format!("{name} ends at {end:.3} s, before {flag} {at}; give a time within it")));
        }
    }
    let index = |at: f64| ((at * rate.value() - near).ceil().max(0.0) as usize).min(files.len());
    let (from, to) = (plan.trim.start.map_or(0, index), plan.trim.end.map_or(files.len(), index));
    let files = files.get(from..to).filter(|files| !files.is_empty());
    let files = files.ok_or_else(|| Error::failed(format!("{name}: no picture in the range of --start and --end")))?;
    Ok((files, Timing::at_rate(rate, files.len() as u64)))
}

impl<'a> VideoSource<'a> {
    /// Opens the input of a plan for the file `output`. Warns of interlaced frames and of frames that are turned.
    pub(super) fn open(input: &'a Input, plan: &EnhancePlan, output: &Path) -> Result<Self> {
        match input {
            Input::File(path) => {
                let mut info = Reader::open(path)?.with_alpha().info().clone();
                let (timing, part) = timing(path, &plan.trim)?;
                info.start = part.map_or(info.start, |part| part.start);
                if !plan.assume_progressive {
                    warn_interlaced(path, &info);
                }
                let turn = turn(path, &mut info, output);
                let conceal = plan.conceal_errors;
                Ok(Self::Video { path, info: Box::new(info), timing, part, turn, conceal })
            }
            Input::Sequence { pattern, files } => {
                let (files, timing) = pictures(pattern, files, plan)?;
                let first = files.first().ok_or_else(|| Error::failed(format!("{}: no picture", pattern.display())))?;
                Ok(Self::Pictures { pattern, files, first_picture: FirstPicture::of(first)?, timing })
            }
        }
    }

    /// The file or the pattern, for messages.
    pub(super) fn name(&self) -> &'a Path {
        match self {
            Self::Video { path, .. } => path,
            Self::Pictures { pattern, .. } => pattern,
        }
    }

    /// The times of the frames.
    pub(super) fn timing(&self) -> &Timing {
        match self {
            Self::Video { timing, .. } | Self::Pictures { timing, .. } => timing,
        }
    }

    /// All frames.
    pub(super) fn frames(&self) -> Result<Frames<'_>> {
        match self {
            Self::Video { path, timing, conceal: true, .. } => {
                Ok(Box::new(Concealed::new(self.decoding(None)?, path, timing)))
            }
            Self::Video { .. } => Ok(Box::new(self.decoding(None)?)),
            Self::Pictures { .. } => Ok(Box::new(self.read_from(0))),
        }
    }

    /// The last distinct frame at a resume point, and the frames that follow.
    ///
    /// # Errors
    /// Those of decoding; a frame that differs from that of the earlier run.
    pub(super) fn frames_from(&self, point: &ResumePoint) -> Result<(Planes, Frames<'_>)> {
        let between = point.number.saturating_sub(point.anchor + 1);
        if let Some((anchor, mut frames)) = self.seek(point) {
            skip(&mut frames, between)?;
            frames.clock.resume_after(point.before);
            return Ok((anchor, Box::new(frames)));
        }
        tracing::debug!("{}: decoding from the beginning, the index does not lead to the frame", self.name().display());
        let mut frames: Frames<'_> = match self {
            Self::Video { .. } => self.frames()?,
            Self::Pictures { .. } => Box::new(self.read_from(point.anchor as usize)),
        };
        if matches!(self, Self::Video { .. }) {
            skip(&mut frames, point.anchor)?;
        }
        let anchor = frames.next().transpose()?.filter(|frame| media::hash(&frame.frame) == point.hash);
        skip(&mut frames, between)?;
        let (name, number) = (self.name().display(), point.anchor);
        let differs = || {
            Error::failed(format!(
                "{name}: frame {number} differs from that of the earlier run; --overwrite starts again"
            ))
        };
        anchor.map(|anchor| (anchor.frame, frames)).ok_or_else(differs)
    }

    /// The last distinct frame at a resume point, found by its time stamp, and a decoder after it. `None`: the frame is not there.
    fn seek(&self, point: &ResumePoint) -> Option<(Planes, Decoding)> {
        // The number of repeats depends on all damage before.
        let Self::Video { timing: Timing { stamped: true, .. }, conceal: false, .. } = self else { return None };
        let mut decoding = self.decoding(Some(point.stamp)).ok()?;
        let anchor = decoding.next()?.ok()?;
        let same = anchor.stamp == point.stamp && media::hash(&anchor.frame) == point.hash;
        same.then_some((anchor.frame, decoding))
    }

    /// A decoder from the beginning of the range, or from a time stamp.
    fn decoding(&self, stamp: Option<i64>) -> Result<Decoding> {
        let Self::Video { path, info, timing, turn, .. } = self else {
            return Err(Error::failed("numbered pictures have no video decoder"));
        };
        let window = timing.window;
        let begin = window.filter(|w| timing.stamped && w.skip > 0).map(|w| w.first);
        let mut reader = Reader::open(path)?.with_alpha();
        if let Some(to) = stamp.or(begin)
            && !reader.seek(to)
        {
            if stamp.is_some() {
                return Err(Error::failed("the index does not lead to the time stamp"));
            }
            reader = Reader::open(path)?.with_alpha();
        }
        let clock = timing.clock(info);
        Ok(Decoding::new(reader, clock, *timing, *turn))
    }

    /// Numbered pictures from `number`.
    fn read_from(&self, number: usize) -> impl Iterator<Item = Result<SourceFrame>> + Send + '_ {
        let (files, first_picture) = match self {
            Self::Pictures { files, first_picture, .. } => (*files, Some(first_picture)),
            Self::Video { .. } => (&[][..], None),
        };
        let take = move |(pts, file): (usize, &PathBuf)| {
            let pts = pts as i64;
            let first_picture = first_picture.ok_or_else(|| Error::failed("no picture"))?;
            Ok(SourceFrame { frame: first_picture.read(file)?, pts, duration: 1, stamp: pts })
        };
        files.iter().enumerate().skip(number).map(take)
    }
}

/// Warns that interlaced frames are not deinterlaced.
fn warn_interlaced(path: &Path, info: &VideoInfo) {
    if let Some(order) = info.field_order {
        tracing::warn!(
            "{}: is interlaced ({}) and processed as progressive, so motion keeps its combs; deinterlace it first, or \
             silence this with --assume-progressive",
            path.display(),
            order.name()
        );
    }
}

/// How frames are turned for an output that cannot store the rotation of the source. `info` then describes turned frames.
fn turn(path: &Path, info: &mut VideoInfo, output: &Path) -> Orientation {
    let turn = Orientation::of_rotation(info.rotation);
    if turn == Orientation(1) || FileFormat::of_path(output).is_some_and(|format| format.rotates) {
        return Orientation(1);
    }
    let (source, degrees) = (path.display(), info.rotation);
    let extension = output.extension().unwrap_or_default().display();
    tracing::warn!("{source}: .{extension} does not store a rotation, so the frames are turned by {degrees} degrees");
    info.turned();
    turn
}

/// Removes `count` frames from the front.
fn skip(frames: &mut dyn Iterator<Item = Result<SourceFrame>>, count: u64) -> Result<()> {
    (0..count).try_for_each(|_| frames.next().transpose().map(|_| ()))
}

/// Properties of the first of numbered pictures, which all others must share.
pub(super) struct FirstPicture<'a> {
    first: &'a Path,
    /// (height, width)
    pub size: (usize, usize),
    /// Whether it has 16 bits per sample.
    pub deep: bool,
    /// Whether it has transparency.
    pub alpha: bool,
}

impl<'a> FirstPicture<'a> {
    fn of(first: &'a Path) -> Result<Self> {
        let frame = read_page(first)?;
        Ok(Self { first, size: (frame.height, frame.width), deep: frame.is_deep(), alpha: frame.channels == 4 })
    }

    fn read(&self, file: &Path) -> Result<Planes> {
        let frame = read_page(file)?;
        let (name, first, (height, width)) = (file.display(), self.first.display(), self.size);
        if (frame.height, frame.width) != (height, width) {
            let (w, h) = (frame.width, frame.height);
            return Err(Error::failed(format!(
                "{name}: expected {width}x{height} pixels as in {first}, got {w}x{h}; all frames of a video need one size"
            )));
        }
        match (self.alpha, frame.channels) {
            (false, 4) => Err(Error::failed(format!(
                "{name} has transparency and {first} has none; all frames of a video need the same channels"
            ))),
            (true, 3) => {
                let mut planes = Planes::ones((4, height, width));
                planes.slice_mut(ndarray::s![..3, .., ..]).assign(&frame.planes());
                Ok(planes)
            }
            _ => Ok(frame.planes()),
        }
    }
}

/// The pixels of a picture of one page.
fn read_page(file: &Path) -> Result<Frame> {
    let picture = picture::read(file)?;
    match picture.pages.len() {
        0 => Ok(picture.frame),
        more => {
            let (name, pages) = (file.display(), more + 1);
            Err(Error::failed(format!("{name} has {pages} pages; a frame of a video has one")))
        }
    }
}
