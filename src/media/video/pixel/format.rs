//! Pixel formats: bit depth, transparency and chroma subsampling, from FFmpeg's descriptors.

use std::ptr;

use ffmpeg_next::ffi;

use crate::media::video::ffmpeg::text;

/// Chroma subsampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[allow(missing_docs)]
pub enum Subsampling {
    /// YCbCr, chroma subsampled by 2 in both directions, or more.
    #[default]
    S420,
    /// YCbCr, chroma subsampled by 2 horizontally.
    S422,
    /// YCbCr, full chroma resolution.
    S444,
    Rgb,
}

/// FFmpeg's descriptor of a pixel format.
pub(crate) struct PixelFormat(&'static ffi::AVPixFmtDescriptor);

impl PixelFormat {
    /// The pixel format of an FFmpeg number; `None`: it has no descriptor.
    pub(crate) fn of(format: i32) -> Option<(ffi::AVPixelFormat, Self)> {
        // SAFETY: the descriptor list is static. An enum value is only taken from that list.
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

    pub(crate) fn name(&self) -> String {
        text(self.0.name)
    }

    pub(crate) fn is_rgb(&self) -> bool {
        self.has(ffi::AV_PIX_FMT_FLAG_RGB) || self.has(ffi::AV_PIX_FMT_FLAG_PAL)
    }

    /// Whether there is an alpha channel. Palettes always count as having one.
    pub(crate) fn has_alpha(&self) -> bool {
        self.has(ffi::AV_PIX_FMT_FLAG_ALPHA)
    }

    pub(crate) fn bits(&self) -> u8 {
        self.0.comp[..self.0.nb_components.into()].iter().map(|c| c.depth).max().unwrap_or(8) as u8
    }

    pub(crate) fn sampling(&self) -> Subsampling {
        match (self.is_rgb(), self.0.log2_chroma_w, self.0.log2_chroma_h) {
            (true, ..) => Subsampling::Rgb,
            // Grey has no chroma.
            _ if self.0.nb_components < 3 => Subsampling::S420,
            (_, 0, 0) => Subsampling::S444,
            (_, _, 0) => Subsampling::S422,
            _ => Subsampling::S420,
        }
    }

    /// Position of chroma samples relative to luma samples, in 1/256 of a sample; −513 in a direction without
    /// subsampling.
    pub(super) fn chroma_position(&self, location: i32) -> (i64, i64) {
        // Unspecified means left, as in H.264 (annex E), HEVC and VP9.
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
