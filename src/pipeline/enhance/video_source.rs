//! What a video is made of: a file, a part of it, or numbered pictures; from the begin, or from a mark on.

use std::path::{Path, PathBuf};

use crate::pipeline::retime::{ResumePoint, SourceFrame};
use crate::{
    error::{Error, Result},
    media::{
        self, picture,
        video::{Clock, Rational, Reader, TimeRange, Timing, VideoInfo},
    },
    plan::{EnhancePlan, Trim},
    stage::interpolate::Planes,
};

/// Frames on their way into the line.
pub type Frames<'a> = Box<dyn Iterator<Item = Result<SourceFrame>> + Send + 'a>;

/// Frames at their times, to be had more than once.
pub enum VideoSource<'a> {
    /// A video or an animated picture.
    #[allow(missing_docs)]
    Video { path: &'a Path, info: Box<VideoInfo>, timing: Timing, part: Option<TimeRange> },
    /// Numbered pictures at a rate.
    #[allow(missing_docs)]
    Pictures { pattern: &'a Path, files: &'a [PathBuf], like: Like<'a>, timing: Timing },
}

/// The timing of a video, or of the part of it that is asked for.
pub fn timing(path: &Path, trim: &Trim) -> Result<(Timing, Option<TimeRange>)> {
    if trim.start.is_none() && trim.end.is_none() {
        return Timing::read(path).map(|timing| (timing, None));
    }
    Timing::read_range(path, trim.start, trim.end).map(|(timing, part)| (timing, Some(part)))
}

/// Those of numbered pictures that are asked for, and their timing.
pub fn pictures<'a>(pattern: &Path, files: &'a [PathBuf], plan: &EnhancePlan) -> Result<(&'a [PathBuf], Timing)> {
    let rate = Rational::of_rate(plan.fps.unwrap_or(25.0));
    let (name, over) = (pattern.display(), files.len() as f64 / rate.value());
    let near = 1e-6;
    for (flag, at) in [("--start", plan.trim.start), ("--end", plan.trim.end)] {
        if let Some(at) = at.filter(|at| *at > over + near) {
            return Err(Error::failed(format!(
                "{name} ends at {over:.3} s, before {flag} {at}; give a time within it"
            )));
        }
    }
    let index = |at: f64| ((at * rate.value() - near).ceil().max(0.0) as usize).min(files.len());
    let (from, to) = (plan.trim.start.map_or(0, index), plan.trim.end.map_or(files.len(), index));
    let files = files.get(from..to).filter(|files| !files.is_empty());
    let files = files.ok_or_else(|| Error::failed(format!("{name}: no picture lies in the part that is asked for")))?;
    Ok((files, Timing::at_rate(rate, files.len() as u64)))
}

impl<'a> VideoSource<'a> {
    /// A file.
    pub fn video(path: &'a Path, plan: &EnhancePlan) -> Result<Self> {
        let mut info = Reader::open(path)?.with_alpha().info().clone();
        let (timing, part) = timing(path, &plan.trim)?;
        info.start = part.map_or(info.start, |part| part.start);
        Ok(Self::Video { path, info: Box::new(info), timing, part })
    }

    /// Numbered pictures.
    pub fn pictures(pattern: &'a Path, files: &'a [PathBuf], plan: &EnhancePlan) -> Result<Self> {
        let (files, timing) = pictures(pattern, files, plan)?;
        let first = files.first().ok_or_else(|| Error::failed(format!("{}: no picture", pattern.display())))?;
        Ok(Self::Pictures { pattern, files, like: Like::of(first)?, timing })
    }

    /// The file, or the pattern.
    pub fn name(&self) -> &'a Path {
        match self {
            Self::Video { path, .. } => path,
            Self::Pictures { pattern, .. } => pattern,
        }
    }

    /// When its frames are shown.
    pub fn timing(&self) -> &Timing {
        match self {
            Self::Video { timing, .. } | Self::Pictures { timing, .. } => timing,
        }
    }

    /// All frames.
    pub fn frames(&self) -> Result<Frames<'_>> {
        match self {
            Self::Video { .. } => Ok(Box::new(self.decoding(None)?)),
            Self::Pictures { .. } => Ok(Box::new(self.read_from(0))),
        }
    }

    /// The picture that is held at a mark, and the frames that follow.
    ///
    /// Errors: those of decoding; the picture is another than when the mark was made.
    pub fn go_on(&self, mark: &ResumePoint) -> Result<(Planes, Frames<'_>)> {
        let between = mark.number.saturating_sub(mark.anchor + 1);
        let is_it = |taken: &SourceFrame| media::hash(&taken.frame) == mark.hash;
        if let Self::Video { timing: Timing { stamped: true, .. }, .. } = self
            && let Ok(mut decoding) = self.decoding(Some(mark.stamp))
            && let Some(Ok(anchor)) = decoding.next()
            && anchor.stamp == mark.stamp
            && is_it(&anchor)
        {
            for _ in 0..between {
                decoding.next().transpose()?;
            }
            decoding.clock.resume_after(mark.before);
            return Ok((anchor.frame, Box::new(decoding)));
        }
        tracing::debug!("{}: decoded from its begin, as its index does not lead to the frame", self.name().display());
        let mut frames = match self {
            Self::Video { .. } => self.frames()?,
            Self::Pictures { .. } => Box::new(self.read_from(mark.anchor as usize)),
        };
        if matches!(self, Self::Video { .. }) {
            for _ in 0..mark.anchor {
                frames.next().transpose()?;
            }
        }
        let anchor = frames.next().transpose()?.filter(is_it);
        for _ in 0..between {
            frames.next().transpose()?;
        }
        let (name, number) = (self.name().display(), mark.anchor);
        let other = || Error::failed(format!("{name}: frame {number} is another than before; --overwrite starts anew"));
        anchor.map(|anchor| (anchor.frame, frames)).ok_or_else(other)
    }

    /// A decoder, from the begin of what is wanted or from a time stamp.
    fn decoding(&self, stamp: Option<i64>) -> Result<Decoding> {
        let Self::Video { path, info, timing, .. } = self else {
            return Err(Error::failed("numbered pictures have no decoder"));
        };
        let window = timing.window;
        let begin = window.filter(|w| timing.stamped && w.skip > 0).map(|w| w.first);
        let mut reader = Reader::open(path)?.with_alpha();
        if let Some(to) = stamp.or(begin)
            && !reader.seek(to)
        {
            if stamp.is_some() {
                return Err(Error::failed("the index does not lead there"));
            }
            reader = Reader::open(path)?.with_alpha();
        }
        Ok(Decoding { reader, clock: timing.clock(info), timing: *timing, passed: 0, given: 0 })
    }

    /// Pictures from one on.
    fn read_from(&self, number: usize) -> impl Iterator<Item = Result<SourceFrame>> + Send + '_ {
        let (files, like) = match self {
            Self::Pictures { files, like, .. } => (*files, Some(like)),
            Self::Video { .. } => (&[][..], None),
        };
        let take = move |(pts, file): (usize, &PathBuf)| {
            let pts = pts as i64;
            let like = like.ok_or_else(|| Error::failed("no picture"))?;
            Ok(SourceFrame { frame: like.read(file)?, pts, duration: 1, stamp: pts })
        };
        files.iter().enumerate().skip(number).map(take)
    }
}

/// A video's frames, those of its window alone.
struct Decoding {
    reader: Reader,
    clock: Clock,
    timing: Timing,
    passed: u64,
    given: u64,
}

impl Iterator for Decoding {
    type Item = Result<SourceFrame>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let frame = match self.reader.next()? {
                Ok(frame) => frame,
                Err(e) => return Some(Err(e)),
            };
            if let Some(window) = self.timing.window {
                let (early, late) = match self.timing.stamped {
                    true => (frame.pts < window.first, frame.pts >= window.after),
                    false => (self.passed < window.skip, self.given >= self.timing.frames),
                };
                self.passed += 1;
                if late {
                    return None;
                }
                if early {
                    continue;
                }
            }
            self.given += 1;
            let pts = self.clock.position(&frame);
            return Some(Ok(SourceFrame {
                stamp: frame.pts,
                frame: frame.frame.planes(),
                pts,
                duration: self.timing.last,
            }));
        }
    }
}

/// What the first of numbered pictures is, and all others must be.
pub struct Like<'a> {
    first: &'a Path,
    /// (height, width)
    pub size: (usize, usize),
    /// 16 bits.
    pub deep: bool,
    /// Whether it has transparency.
    pub alpha: bool,
}

impl<'a> Like<'a> {
    fn of(first: &'a Path) -> Result<Self> {
        let frame = picture::read(first)?.frame;
        Ok(Self { first, size: (frame.height, frame.width), deep: frame.is_deep(), alpha: frame.channels == 4 })
    }

    fn read(&self, file: &Path) -> Result<Planes> {
        let frame = picture::read(file)?.frame;
        let (place, first, (height, width)) = (file.display(), self.first.display(), self.size);
        if (frame.height, frame.width) != (height, width) {
            let (w, h) = (frame.width, frame.height);
            return Err(Error::failed(format!(
                "{place} has {w}x{h} pixels where {first} has {width}x{height}; the frames of a video are of one size"
            )));
        }
        match (self.alpha, frame.channels) {
            (false, 4) => Err(Error::failed(format!(
                "{place} has transparency where {first} has none; the frames of a video are of one kind"
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
