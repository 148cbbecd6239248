//! Converts pixel formats with swscale: accurate rounding, full chroma interpolation, explicit matrix and chroma
//! position.

use std::ptr;

use ffmpeg_next::{ffi, frame};

use super::{color::Color, format::PixelFormat};
use crate::media::video::ffmpeg::{self, c_string};

/// The pixel format and colour tags of one side of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub format: ffi::AVPixelFormat,
    pub color: Color,
}

/// Converts between two layouts of the same size.
pub(crate) struct Converter {
    context: *mut ffi::SwsContext,
    pub from: Layout,
    size: (i32, i32),
}

// SAFETY: the context is owned and used by one thread at a time.
unsafe impl Send for Converter {}

impl Converter {
    pub(crate) fn new(from: Layout, to: Layout, size: (i32, i32)) -> Result<Self, String> {
        // SAFETY: `converter` owns the context. Options are set by name before it is initialised.
        unsafe {
            let converter = Self { context: ffi::sws_alloc_context(), from, size };
            if converter.context.is_null() {
                return Err("out of memory".into());
            }
            let (source, target) = (converter.side(from)?, converter.side(to)?);
            let flags = ffi::SWS_BICUBIC | ffi::SWS_ACCURATE_RND | ffi::SWS_FULL_CHR_H_INT | ffi::SWS_FULL_CHR_H_INP;
            let (s, t) = (source.chroma_position(from.color.chroma), target.chroma_position(to.color.chroma));
            let options = [
                ("srcw", size.0.into()),
                ("srch", size.1.into()),
                ("dstw", size.0.into()),
                ("dsth", size.1.into()),
                ("src_format", from.format as i64),
                ("dst_format", to.format as i64),
                ("src_h_chr_pos", s.0),
                ("src_v_chr_pos", s.1),
                ("dst_h_chr_pos", t.0),
                ("dst_v_chr_pos", t.1),
                ("sws_flags", flags.into()),
            ];
            for (name, value) in options {
                if ffi::av_opt_set_int(converter.context.cast(), c_string(name).as_ptr(), value, 0) < 0 {
                    return Err(format!("this FFmpeg's swscale has no option {name}"));
                }
            }
            let ranges = [(from, &source), (to, &target)].map(|(l, f)| (f.is_rgb() || l.color.is_full()).into());
            let table = |layout: Layout| ffi::sws_getCoefficients(layout.color.matrix);
            let details = |s: &Self| {
                ffi::sws_setColorspaceDetails(
                    s.context,
                    table(from),
                    ranges[0],
                    table(to),
                    ranges[1],
                    0,
                    1 << 16,
                    1 << 16,
                )
            };
            // The first call sets the ranges, which choose the code path. The second call builds the tables of the
            // initialised context.
            details(&converter);
            if ffi::sws_init_context(converter.context, ptr::null_mut(), ptr::null_mut()) < 0 {
                return Err(format!("swscale cannot convert {} to {}", source.name(), target.name()));
            }
            if details(&converter) < 0 && !(source.is_rgb() && target.is_rgb()) {
                return Err(format!("swscale cannot convert {} to {} with this matrix", source.name(), target.name()));
            }
            Ok(converter)
        }
    }

    /// The pixel format of one side. Errors: a matrix that swscale does not support.
    fn side(&self, layout: Layout) -> Result<PixelFormat, String> {
        let (_, format) = PixelFormat::of(layout.format as i32).ok_or("the frame has no known pixel format")?;
        if !format.is_rgb() && !layout.color.has_known_matrix() {
            let matrix = layout.color.matrix;
            return Err(format!("YCbCr with matrix coefficients {matrix} of H.273 cannot be converted to RGB"));
        }
        Ok(format)
    }

    /// Converts all rows. Both frames have this converter's size and formats, and FFmpeg's row padding.
    pub(crate) fn run(&mut self, from: &frame::Video, to: &mut frame::Video) -> Result<(), String> {
        // SAFETY: both frames own their planes, which FFmpeg allocated for these formats and this size.
        let rows = unsafe {
            let (f, t) = (&*from.as_ptr(), &*to.as_mut_ptr());
            debug_assert!((f.width, f.height) == self.size && (t.width, t.height) == self.size);
            ffi::sws_scale(
                self.context,
                f.data.as_ptr().cast(),
                f.linesize.as_ptr(),
                0,
                self.size.1,
                t.data.as_ptr(),
                t.linesize.as_ptr(),
            )
        };
        if rows == self.size.1 { Ok(()) } else { Err("swscale failed".into()) }
    }
}

impl Drop for Converter {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}

/// Allocates a frame with FFmpeg's row padding.
pub(crate) fn allocate(format: ffi::AVPixelFormat, size: (i32, i32)) -> Result<frame::Video, String> {
    let mut frame = frame::Video::empty();
    // SAFETY: the frame is owned; its fields describe the buffer to allocate.
    unsafe {
        let raw = &mut *frame.as_mut_ptr();
        (raw.format, raw.width, raw.height) = (format as i32, size.0, size.1);
        ffmpeg::check(ffi::av_frame_get_buffer(raw, 0))?;
    }
    Ok(frame)
}
