//! Pixel formats into each other, through swscale: exact rounding, full chroma, the right matrix and chroma position.

use std::ptr;

use ffmpeg_next::{ffi, frame};

use super::{
    color::Color,
    ffmpeg::{c_string, text},
};

/// How much of colour a pixel format keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs)]
pub enum Sampling {
    /// YCbCr, chroma at half the columns and rows, or coarser.
    #[default]
    S420,
    /// YCbCr, chroma at half the columns.
    S422,
    /// YCbCr, chroma at every sample.
    S444,
    Rgb,
}

/// One side of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub format: ffi::AVPixelFormat,
    pub color: Color,
}

/// What a pixel format is.
pub(super) struct PixelFormat(&'static ffi::AVPixFmtDescriptor);

impl PixelFormat {
    /// The format of a decoder's number; `None` where there is none.
    pub fn of(format: i32) -> Option<(ffi::AVPixelFormat, Self)> {
        // SAFETY: the descriptor list is constant; a number becomes an enum only by coming out of that list.
        unsafe {
            let mut descriptor = ptr::null();
            loop {
                descriptor = ffi::av_pix_fmt_desc_next(descriptor);
                let known = descriptor.as_ref()?;
                let id = ffi::av_pix_fmt_desc_get_id(descriptor);
                if id as i32 == format {
                    return Some((id, Self(known)));
                }
            }
        }
    }

    fn has(&self, flag: i32) -> bool {
        self.0.flags & flag as u64 != 0
    }

    pub fn name(&self) -> String {
        text(self.0.name)
    }

    pub fn is_rgb(&self) -> bool {
        self.has(ffi::AV_PIX_FMT_FLAG_RGB) || self.has(ffi::AV_PIX_FMT_FLAG_PAL)
    }

    /// Whether there is an alpha plane. A palette may be clear in places; its 4 channels are always counted.
    pub fn has_alpha(&self) -> bool {
        self.has(ffi::AV_PIX_FMT_FLAG_ALPHA)
    }

    pub fn bits(&self) -> u8 {
        self.0.comp[..self.0.nb_components.into()].iter().map(|c| c.depth).max().unwrap_or(8) as u8
    }

    pub fn sampling(&self) -> Sampling {
        match (self.is_rgb(), self.0.log2_chroma_w, self.0.log2_chroma_h) {
            (true, ..) => Sampling::Rgb,
            // Grey comes with no chroma to lose.
            _ if self.0.nb_components < 3 => Sampling::S420,
            (_, 0, 0) => Sampling::S444,
            (_, _, 0) => Sampling::S422,
            _ => Sampling::S420,
        }
    }

    /// Where chroma lies between luma samples, in 1/256 of one, or −513 for formats that have it everywhere.
    fn chroma_position(&self, location: i32) -> (i64, i64) {
        // Unspecified is left, as H.264 (annex E), HEVC and VP9 have it.
        let (h, v) = match location {
            2 => (128, 128),
            3 => (0, 0),
            4 => (128, 0),
            5 => (0, 256),
            6 => (128, 256),
            _ => (0, 128),
        };
        let sub = (self.0.log2_chroma_w == 1, self.0.log2_chroma_h == 1);
        (if sub.0 { h } else { -513 }, if sub.1 { v } else { -513 })
    }
}

/// A converter between two layouts of one size.
pub(super) struct Scaler {
    context: *mut ffi::SwsContext,
    pub from: Layout,
    size: (i32, i32),
}

// SAFETY: the context is owned and used by one thread at a time.
unsafe impl Send for Scaler {}

impl Scaler {
    pub fn new(from: Layout, to: Layout, size: (i32, i32)) -> Result<Self, String> {
        // SAFETY: the context is owned by `scaler` from here on; options are set by name before it is initialised.
        unsafe {
            let scaler = Self { context: ffi::sws_alloc_context(), from, size };
            if scaler.context.is_null() {
                return Err("out of memory".into());
            }
            let (source, target) = (scaler.side(from)?, scaler.side(to)?);
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
                if ffi::av_opt_set_int(scaler.context.cast(), c_string(name).as_ptr(), value, 0) < 0 {
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
            // Once before, because the ranges choose the code path; once after, because it builds the tables.
            details(&scaler);
            if ffi::sws_init_context(scaler.context, ptr::null_mut(), ptr::null_mut()) < 0 {
                return Err(format!("swscale cannot convert {} to {}", source.name(), target.name()));
            }
            if details(&scaler) < 0 && !(source.is_rgb() && target.is_rgb()) {
                return Err(format!("swscale cannot convert {} to {} with this matrix", source.name(), target.name()));
            }
            Ok(scaler)
        }
    }

    /// The format of one side, if its numbers have a meaning we can convert.
    fn side(&self, layout: Layout) -> Result<PixelFormat, String> {
        let (_, format) = PixelFormat::of(layout.format as i32).ok_or("the frame has no pixel format")?;
        if !format.is_rgb() && !layout.color.has_known_matrix() {
            let matrix = layout.color.matrix;
            return Err(format!("YCbCr with matrix coefficients {matrix} of H.273 cannot be converted to RGB"));
        }
        Ok(format)
    }

    /// Converts all rows. Both frames have this converter's size and formats, and FFmpeg's row padding.
    pub fn run(&mut self, from: &frame::Video, to: &mut frame::Video) -> Result<(), String> {
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

impl Drop for Scaler {
    fn drop(&mut self) {
        // SAFETY: owned, freed once.
        unsafe { ffi::sws_freeContext(self.context) };
    }
}
