//! Writes animated GIF with the image crate.

use std::{fs::File, io::BufWriter};

use image::{
    Delay, ImageError, RgbaImage,
    codecs::gif::{GifEncoder, Repeat},
};

use crate::{
    error::{At, Error, Result},
    files::PendingFile,
    media::{
        picture::eight_bit::{PALETTE_SPEED, PARTIAL, has_soft_alpha, palette_pixels},
        video::{
            encode::{
                spec::{Summary, VideoOptions, VideoSpec},
                verify::{self, ExpectedFrames},
            },
            probe::other_streams,
            rational::Rational,
        },
    },
    tensor::{Frame, check_room},
};

/// Writes a GIF. Each frame is stored completely, with its own palette (exact up to 256 colours, else NeuQuant without
/// dithering). Alpha of at least 0.5 is opaque. Times are rounded to 10 ms; rounding errors do not accumulate.
pub(crate) struct Gif {
    pending: PendingFile,
    encoder: GifEncoder<BufWriter<File>>,
    size: (usize, usize),
    frames: u64,
    time_base: Rational,
    /// Time stamp of the first frame.
    first: Option<i64>,
    end: i64,
    /// Duration written so far, in hundredths of a second.
    written: u64,
    left_out: Vec<String>,
    /// Whether a frame has partial transparency. `None`: only at edges that were enlarged.
    soft: Option<bool>,
    verify: bool,
}

impl Gif {
    /// Creates the file. Errors: a codec or option that GIF does not have, a size that it cannot store.
    pub(crate) fn create(pending: PendingFile, options: &VideoOptions, spec: &VideoSpec) -> Result<Self> {
        let path = pending.target();
        let asked = options.codec.as_deref().filter(|c| *c != "gif");
        let other = [(asked, "codec"), (options.pix_fmt.as_deref(), "pixel format")];
        if let Some((name, what)) = other.iter().find_map(|(name, what)| Some(((*name)?, what))) {
            return Err(Error::usage(format!("{}: a GIF has no {what} {name}; use .mkv", path.display())));
        }
        if options.crf.is_some() || !options.extra.is_empty() {
            return Err(Error::usage(format!(
                "{}: a GIF has no rate factor and no options; leave them out",
                path.display()
            )));
        }
        if spec.width.max(spec.height) > 65535 || spec.width * spec.height == 0 {
            let (w, h) = (spec.width, spec.height);
            return Err(Error::usage(format!("{}: a GIF of {w}x{h} cannot be written", path.display())));
        }
        let mut left_out = spec.left_out.clone();
        if spec.bit_depth > 8 {
            left_out.push(format!("{} of {} bits per sample (a GIF has 8)", spec.bit_depth - 8, spec.bit_depth));
        }
        if let Some(source) = &spec.source {
            left_out.extend(other_streams(source)?);
        }
        let file = File::options().write(true).open(pending.temporary()).map_err(|e| Error::io("writing", path, &e))?;
        let mut encoder = GifEncoder::new_with_speed(BufWriter::new(file), PALETTE_SPEED);
        let repeat = match spec.plays.unwrap_or(0) {
            0 => Some(Repeat::Infinite),
            1 => None,
            n => Some(Repeat::Finite(u16::try_from(n - 1).unwrap_or(u16::MAX))),
        };
        if let Some(repeat) = repeat {
            encoder.set_repeat(repeat).map_err(|e| Error::failed(e.to_string())).at(path.display())?;
        }
        let size = (spec.width, spec.height);
        let time_base = spec.time_base;
        Ok(Self {
            pending,
            encoder,
            size,
            frames: 0,
            time_base,
            first: None,
            end: 0,
            written: 0,
            left_out,
            soft: (!spec.hard_alpha).then_some(false),
            verify: options.verify,
        })
    }

    /// Writes the next frame, displayed from `pts` for `duration` ticks of the spec's time base.
    pub(crate) fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let first = *self.first.get_or_insert(pts);
        self.end = pts + duration;
        let end = (self.end - first) as f64 * self.time_base.value();
        let (width, height) = self.size;
        if (frame.width, frame.height) != (width, height) {
            let (w, h, n) = (frame.width, frame.height, self.frames);
            return Err(self.failed(&format!("frame {n} is {w}x{h} where {width}x{height} are encoded")));
        }
        // Players slow down shorter frames.
        let hundredths = ((end * 100.0).round() as u64).max(self.written + 2);
        let delay = u32::try_from((hundredths - self.written) * 10).unwrap_or(u32::MAX);
        // Pixels with alpha at the depth of the frame and at 8 bits, indices, and compressed indices. Their allocation cannot fail
        // without ending the process.
        let depth = if frame.is_deep() { 2 } else { 1 };
        check_room::<u8>(width * height * (4 * depth + 6)).map_err(|e| self.failed(&e.to_string()))?;
        self.soft = self.soft.map(|soft| soft || has_soft_alpha(frame));
        let pixels = palette_pixels(frame);
        let Some(picture) = RgbaImage::from_raw(width as u32, height as u32, pixels) else {
            return Err(self.failed(&format!("frame {} is not a picture", self.frames)));
        };
        let frame = image::Frame::from_parts(picture, 0, 0, Delay::from_numer_denom_ms(delay, 1));
        self.encoder.encode_frame(frame).map_err(|e| match e {
            ImageError::IoError(e) => Error::io("writing", self.pending.target(), &e),
            e => self.failed(&e.to_string()),
        })?;
        (self.written, self.frames) = (hundredths, self.frames + 1);
        Ok(())
    }

    /// The tick at which the last frame ends.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Closes the file, which is not named yet.
    pub(crate) fn close(self) -> Result<(PendingFile, Summary)> {
        if self.frames == 0 {
            return Err(self.failed("no frame was written; a video needs at least one"));
        }
        let Self { pending, encoder, size, frames, written, mut left_out, soft, verify: check, .. } = self;
        left_out.extend((soft == Some(true)).then(|| PARTIAL.to_owned()));
        // Dropping the encoder writes the trailer.
        drop(encoder);
        let duration = written as f64 / 100.0;
        // No packet stores the duration of the last frame; it is only known from the end of the file.
        let wanted = ExpectedFrames { size, frames, duration, slack: duration, pixels: None };
        let path = pending.temporary();
        let found =
            verify::packets(path, &wanted).and_then(|()| if check { verify::decoded(path, &wanted) } else { Ok(()) });
        found.map_err(|why| Error::failed(format!("writing {}: {why}; write it again", pending.target().display())))?;
        Ok((pending, Summary { frames, bytes: 0, duration, encoder: "gif".into(), left_out }))
    }

    fn failed(&self, why: &str) -> Error {
        Error::failed(format!("writing {}: {why}", self.pending.target().display()))
    }
}
