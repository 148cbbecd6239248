//! The frames of an input: a video file or a time range of it, or numbered pictures; from the beginning or from a resume point.
//!
//! With `--start` and `--end`, in seconds from the beginning of the container, the video consists of the frames whose display begins
//! in that range. Audio is cut between packets, subtitles and chapters are trimmed, and all of them keep their common offset.

use std::path::{Path, PathBuf};

use super::{concealed::Concealed, decoding::Decoding, numbered::FirstPicture};
use crate::{
    error::{Error, Result},
    media::{
        self, FileFormat,
        video::{Rational, Reader, TimeRange, Timing, VideoInfo},
    },
    pipeline::{orientation::Orientation, resume_point::ResumePoint, retime::SourceFrame},
    plan::{EnhancePlan, Input, Trim},
    stage::interpolate::Planes,
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

    /// (height, width) of the frames.
    pub(super) fn size(&self) -> (usize, usize) {
        match self {
            Self::Video { info, .. } => (info.height, info.width),
            Self::Pictures { first_picture, .. } => first_picture.size,
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
            Self::Pictures { files, first_picture, .. } => Ok(Box::new(first_picture.frames(files, 0))),
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
            Self::Pictures { files, first_picture, .. } => Box::new(first_picture.frames(files, point.anchor as usize)),
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

/// Removes `count` frames from the front, or all if there are fewer.
fn skip(frames: &mut dyn Iterator<Item = Result<SourceFrame>>, count: u64) -> Result<()> {
    for _ in 0..count {
        if frames.next().transpose()?.is_none() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/clips/big-buck-bunny.mp4");

    fn plan(fps: Option<f64>, start: Option<f64>, end: Option<f64>) -> EnhancePlan {
        EnhancePlan { fps, trim: Trim { start, end, chunk: None }, ..EnhancePlan::default() }
    }

    /// Frames per second, number of pictures, `--start`, `--end`; the first picture and the one after the last, or what the error says.
    #[test]
    fn numbered_pictures_are_trimmed() {
        type Row<'a> = (f64, usize, Option<f64>, Option<f64>, Result<(usize, usize), &'a str>);
        let ntsc = 30_000.0 / 1001.0;
        let none = "f_%03d.png: no picture in the range of --start and --end";
        let rows: &[Row<'_>] = &[
            (25.0, 10, None, None, Ok((0, 10))),
            (25.0, 10, Some(0.0), None, Ok((0, 10))),
            // A picture that begins at the start belongs to the range.
            (25.0, 10, Some(0.04), None, Ok((1, 10))),
            (25.0, 10, Some(0.041), None, Ok((2, 10))),
            (25.0, 10, Some(0.039), None, Ok((1, 10))),
            // One that begins at the end does not.
            (25.0, 10, None, Some(0.2), Ok((0, 5))),
            (25.0, 10, None, Some(0.201), Ok((0, 6))),
            (25.0, 10, None, Some(0.4), Ok((0, 10))),
            (25.0, 10, Some(0.08), Some(0.12), Ok((2, 3))),
            (25.0, 10, Some(0.36), Some(0.4), Ok((9, 10))),
            (25.0, 10, Some(0.081), Some(0.119), Err(none)),
            (25.0, 10, Some(0.4), None, Err(none)),
            (25.0, 10, None, Some(0.0), Err(none)),
            (25.0, 10, Some(0.5), None, Err("f_%03d.png ends at 0.400 s, before --start 0.5; give a time within it")),
            (25.0, 10, None, Some(0.41), Err("f_%03d.png ends at 0.400 s, before --end 0.41")),
            (ntsc, 10, Some(1.001 / 30.0), None, Ok((1, 10))),
            (29.97, 10, Some(3.003 / 30.0), Some(6.006 / 30.0), Ok((3, 6))),
            (0.5, 4, Some(1.0), Some(6.0), Ok((1, 3))),
            (1000.0, 5000, Some(1.2345), Some(4.9995), Ok((1235, 5000))),
            (25.0, 1, Some(0.0), Some(0.04), Ok((0, 1))),
        ];
        let mut wrong = Vec::new();
        for (fps, count, start, end, want) in rows {
            let files: Vec<PathBuf> = (0..*count).map(|k| format!("f_{k:03}.png").into()).collect();
            let plan = plan(Some(*fps), *start, *end);
            let right = match (pictures(Path::new("f_%03d.png"), &files, &plan), want) {
                (Ok((part, timing)), Ok((from, to))) => {
                    let wanted = Timing::at_rate(Rational::of_rate(*fps), (to - from) as u64);
                    part == &files[*from..*to] && timing == wanted
                }
                (Err(e), Err(words)) => e.to_string().contains(words),
                _ => false,
            };
            if !right {
                let found = pictures(Path::new("f_%03d.png"), &files, &plan);
                let found = found.map(|(part, timing)| (part.first().cloned(), part.len(), timing));
                wrong.push(format!("{fps} {count} {start:?} {end:?}: wanted {want:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let files = [PathBuf::from("f_001.png")];
        assert_eq!(pictures(Path::new("f"), &files, &plan(None, None, None)).unwrap().1.rate, Rational::new(25, 1));
    }

    /// `--start`, `--end` of a clip of 50 frames at 25 frames per second; the frames, or what the error says.
    #[test]
    fn videos_are_trimmed() {
        type Row<'a> = (Option<f64>, Option<f64>, Result<std::ops::Range<i64>, &'a str>);
        let rows: &[Row<'_>] = &[
            (None, None, Ok(0..50)),
            (Some(0.0), None, Ok(0..50)),
            (Some(0.4), Some(0.48), Ok(10..12)),
            (Some(0.39), Some(0.49), Ok(10..13)),
            (Some(0.401), None, Ok(11..50)),
            (None, Some(0.04), Ok(0..1)),
            (Some(1.96), None, Ok(49..50)),
            (None, Some(2.0), Ok(0..50)),
            (Some(0.41), Some(0.43), Err("has no frame from 0.41 s to 0.43 s")),
            (Some(2.0), None, Err("ends at 2.000 s, before --start 2")),
            (None, Some(2.2), Err("ends at 2.000 s, before --end 2.2")),
        ];
        let input = Input::File(CLIP.into());
        let mut wrong = Vec::new();
        for (start, end, want) in rows {
            let plan = plan(None, *start, *end);
            let frames = VideoSource::open(&input, &plan, Path::new("a.mkv")).and_then(|source| {
                let frames: Vec<_> = source.frames()?.collect::<Result<_>>()?;
                let timing = *source.timing();
                Ok((timing, frames.iter().map(|frame| (frame.pts, frame.stamp)).collect::<Vec<_>>()))
            });
            let right = match (&frames, want) {
                (Ok((timing, found)), Ok(range)) => {
                    // The time base of the clip is 1/12800 s.
                    let wanted: Vec<_> = range.clone().enumerate().map(|(pts, k)| (pts as i64, 512 * k)).collect();
                    *found == wanted && timing.frames == wanted.len() as u64 && timing.rate == Rational::new(25, 1)
                }
                (Err(e), Err(words)) => e.to_string().contains(words),
                _ => false,
            };
            if !right {
                wrong.push(format!("{start:?} {end:?}: wanted {want:?}, got {frames:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Range of a clip, the last distinct frame before the resume point, the number of the next frame; whether the hash of the point is
    /// that of the frame, and whether its time stamp leads to it.
    #[test]
    fn sources_resume_at_a_frame() {
        let input = Input::File(CLIP.into());
        let mut wrong = Vec::new();
        for (start, anchor, number, same_hash, same_stamp) in [
            (None, 0, 1, true, true),
            (None, 20, 21, true, true),
            (None, 20, 24, true, true),
            (None, 49, 50, true, true),
            (None, 20, 21, true, false),
            (None, 20, 24, true, false),
            (None, 20, 21, false, true),
            (None, 20, 21, false, false),
            (Some(0.4), 5, 6, true, true),
            (Some(0.4), 5, 8, true, false),
            (Some(0.4), 5, 6, false, true),
        ] {
            let plan = plan(None, start, None);
            let source = VideoSource::open(&input, &plan, Path::new("a.mkv")).unwrap();
            let all: Vec<SourceFrame> = source.frames().unwrap().collect::<Result<_>>().unwrap();
            let stands = &all[anchor];
            let hash = if same_hash { media::hash(&stands.frame) } else { media::hash(&all[0].frame) + "x" };
            let state = r#"{"anchor":null,"repeats":[],"still":false,"count":0,"next":null,"begun":false}"#;
            let point = ResumePoint {
                from: 0,
                number,
                before: all[number as usize - 1].pts,
                anchor: anchor as u64,
                stamp: if same_stamp { stands.stamp } else { stands.stamp + 1 },
                hash,
                last: 1,
                usual: 0,
                timeline: serde_json::from_str(state).unwrap(),
            };
            let found =
                source.frames_from(&point).and_then(|(frame, rest)| Ok((frame, rest.collect::<Result<Vec<_>>>()?)));
            let right = match &found {
                Ok((frame, rest)) => {
                    let wanted = &all[number as usize..];
                    same_hash
                        && *frame == stands.frame
                        && rest.len() == wanted.len()
                        && rest
                            .iter()
                            .zip(wanted)
                            .all(|(a, b)| (a.pts, a.stamp, &a.frame) == (b.pts, b.stamp, &b.frame))
                }
                Err(e) => {
                    !same_hash
                        && e.to_string().contains(&format!("frame {anchor} differs from that of the earlier run"))
                }
            };
            if !right {
                let found = found.map(|(_, rest)| rest.iter().map(|f| (f.pts, f.stamp)).collect::<Vec<_>>());
                wrong.push(format!("{start:?} {anchor} {number} {same_hash} {same_stamp}: {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
