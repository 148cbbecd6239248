//! Reads the time stamps of a video's packets without decoding ([`Timing`]).

use std::path::Path;

use ffmpeg_next::{Packet, ffi, format::context::Input, packet::Ref};

use super::{
    animation::webp::WebP,
    decode::{
        info::{self, VideoInfo},
        time_jump::TimeJumps,
        timing::{TimeRange, Timing, Window, origin},
    },
    open::open,
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
        let (mut stamps, bare, last) = packets(&mut input, &info, path);
        if bare > 0 || stamps.is_empty() {
            let frames = if bare > 0 { bare + stamps.len() as u64 } else { info.frames.unwrap_or(1) };
            return Ok(Self { stamped: false, ..Self::at_rate(info.frame_rate, frames) });
        }
        let stream = info::streams(&input)[info.index];
        let rates = [info.frame_rate, stream.r_frame_rate.into(), stream.avg_frame_rate.into()];
        stamps.sort_unstable();
        Ok(Self::of(&info, &rates, (&stamps, origin(&info)), last))
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
        let (mut stamps, bare, last) = packets(&mut input, &info, path);
        let (base, rate) = (info.time_base.value(), info.frame_rate);
        let stamped = bare == 0 && !stamps.is_empty();
        stamps.sort_unstable();
        // A header may claim any number of frames.
        let count = match (stamped, bare) {
            (true, _) => stamps.len() as u64,
            (false, 0) => info.frames.unwrap_or(1),
            (false, _) => bare + stamps.len() as u64,
        };
        let time = |k: u64| match stamped {
            true => stamps[k as usize] as f64 * base - info.origin as f64 * 1e-6,
            false => info.start + k as f64 / rate.value(),
        };
        let (near, usual) = (if stamped { 0.5 * base } else { 1e-6 }, 1.0 / rate.value());
        let length = if stamped && last > 0 { last as f64 * base } else { usual };
        let over = count.checked_sub(1).map_or(0.0, |last| time(last) + length);
        for (flag, at, most) in [("--start", begin, over - near), ("--end", end, over + usual + near)] {
            if let Some(at) = at.filter(|at| *at > most) {
                return Err(Error::failed(format!(
                    "{name} ends at {over:.3} s, before {flag} {at}; give a time within it"
                )));
            }
        }
        let index = |at: f64| first_not(count, |k| time(k) < at - near);
        let (from, to) = (begin.map_or(0, index), end.map_or(count, index));
        if from >= to {
            let (begin, end) = (begin.unwrap_or(0.0), end.unwrap_or(over));
            return Err(Error::failed(format!("{name} has no frame from {begin} s to {end} s; give a longer range")));
        }
        let begin = begin.unwrap_or(0.0);
        let part = TimeRange { begin, end: end.unwrap_or(1e9), start: time(from) - begin };
        let mut window = Window { skip: from, first: 0, after: i64::MAX };
        if !stamped {
            let timing = Self::at_rate(rate, to - from);
            return Ok((Self { stamped: false, window: Some(window), ..timing }, part));
        }
        let left = end.map_or(i64::MAX, |end| ((end - time(to - 1)) / base).round().max(1.0) as i64);
        let (from, to) = (from as usize, to as usize);
        (window.first, window.after) = (stamps[from], stamps.get(to).copied().unwrap_or(i64::MAX));
        let next = stamps.get(to).map_or(last, |next| next.saturating_sub(stamps[to - 1]));
        let stream = info::streams(&input)[info.index];
        let rates = [info.frame_rate, stream.r_frame_rate.into(), stream.avg_frame_rate.into()];
        let timing = Self::of(&info, &rates, (&stamps[from..to], stamps[from]), next.min(left));
        Ok((Self { window: Some(window), ..timing }, part))
    }
}

/// The first of `0..count` for which `before` is false; it is true for all smaller ones.
fn first_not(count: u64, before: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        (low, high) = if before(middle) { (middle + 1, high) } else { (low, middle) };
    }
    low
}

/// Returns time stamps of displayed packets, the number of packets without one, and the duration of the last one. Warns
/// of jumps of the container's clock.
fn packets(input: &mut Input, info: &VideoInfo, name: &Path) -> (Vec<i64>, u64, i64) {
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
    (stamps, bare, last.1)
}
