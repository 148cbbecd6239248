//! Reads the time stamps of a video's packets without decoding ([`Timing`]).

use std::path::Path;

use ffmpeg_next::{Packet, ffi, format::context::Input, packet::Ref};

use super::{
    animation::webp::WebP,
    decode::{
        info::{self, VideoInfo},
        time_jump::TimeJumps,
        timing::{Clock, PacketTimes, StreamTime, TimeRange, Timing},
    },
    open::open,
    rational::Rational,
};
use crate::error::{Error, Result};

impl Timing {
    /// Reads every packet of the video without decoding. Memory grows by eight bytes per frame. If packets have no time
    /// stamps, frames follow each other at the rate in the header. Damage is reported by [`Reader`](super::Reader), not
    /// here.
    ///
    /// Errors: those of [`probe`](super::probe()).
    pub fn read(path: &Path) -> Result<Self> {
        if let Some(webp) = WebP::open(path)? {
            return Ok(webp.timing());
        }
        let mut input = open(path)?;
        let info = info::of_input(&input, path)?;
        let packets = packets(&mut input, &info, path);
        Ok(Self::of(&info.time(), &rates(&input, &info), &packets))
    }

    /// Like [`Timing::read`], for the frames whose display begins from `begin` until `end`, in seconds from the start
    /// of the container. The first of them has position 0.
    ///
    /// Errors: those of [`probe`](super::probe()), a time after the end, a range without frames, an animated WebP.
    pub fn read_range(path: &Path, begin: Option<f64>, end: Option<f64>) -> Result<(Self, TimeRange)> {
        let name = path.display();
        if WebP::open(path)?.is_some() {
            return Err(Error::failed(format!(
                "{name}: --start and --end do not support animated WebP; leave them out"
            )));
        }
        let mut input = open(path)?;
        let info = info::of_input(&input, path)?;
        let packets = packets(&mut input, &info, path);
        Self::in_range(&info.time(), &rates(&input, &info), &packets, (begin, end))
            .map_err(|why| Error::failed(format!("{name} {why}")))
    }

    /// A clock that gives decoded frames their positions.
    pub fn clock(&self, info: &VideoInfo) -> Clock {
        Clock::new(*self, &info.time())
    }
}

impl VideoInfo {
    fn time(&self) -> StreamTime {
        let Self { time_base, frame_rate, start, origin, frames, .. } = *self;
        StreamTime { time_base, frame_rate, start, origin, frames }
    }
}

/// Candidates for a steady rate.
fn rates(input: &Input, info: &VideoInfo) -> [Rational; 3] {
    let stream = info::streams(input)[info.index];
    [info.frame_rate, stream.r_frame_rate.into(), stream.avg_frame_rate.into()]
}

/// Reads the time stamps of displayed packets. Warns of jumps of the container's clock.
fn packets(input: &mut Input, info: &VideoInfo, name: &Path) -> PacketTimes {
    let mut jumps = TimeJumps::new(input);
    jumps.keep_only(input, |index| index == info.index);
    let (mut stamps, mut bare, mut last) = (Vec::new(), 0, (i64::MIN, 0));
    loop {
        let mut packet = Packet::empty();
        let code = jumps.read(input, &mut packet);
        // SAFETY: a packet that was read, or an empty one. Any error ends the reading.
        let raw = unsafe { &*packet.as_ptr() };
        if code < 0 {
            break;
        }
        if raw.stream_index as usize != info.index || raw.flags & ffi::AV_PKT_FLAG_DISCARD != 0 {
            continue;
        }
        if raw.pts == ffi::AV_NOPTS_VALUE {
            bare += 1;
        } else {
            stamps.push(raw.pts);
            last = last.max((raw.pts, raw.duration));
        }
    }
    for (at, by) in jumps.found {
        tracing::warn!("{}: its clock jumps by {by:.3} s to {at:.3} s; the parts are joined", name.display());
    }
    stamps.sort_unstable();
    PacketTimes { stamps, bare, last: last.1 }
}
