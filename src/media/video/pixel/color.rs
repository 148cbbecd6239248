//! Colour tags: the code points of ITU-T H.273, the range, and the position of chroma samples.

use ffmpeg_next::ffi;

use crate::media::video::ffmpeg::number;

/// The range of YCbCr values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ColorRange {
    /// Unspecified; treated as limited.
    #[default]
    Unspecified,
    /// 16–235 (luma) and 16–240 (chroma) of 255; FFmpeg's `tv`.
    Limited,
    /// 0–255; FFmpeg's `pc`.
    Full,
}

/// Colour tags, as code points of H.273; 2 is unspecified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Color {
    /// Colour primaries: 1 BT.709, 9 BT.2020, …
    pub primaries: i32,
    /// Transfer characteristics: 1 BT.709, 16 PQ, 18 HLG, …
    pub transfer: i32,
    /// Matrix coefficients: 0 RGB, 1 BT.709, 5 and 6 BT.601, 9 BT.2020, …
    pub matrix: i32,
    /// Limited or full.
    pub range: ColorRange,
    /// FFmpeg's `AVChromaLocation`: 0 unspecified, 1 left, 2 centre, 3 top left, …
    pub chroma: i32,
}

impl Default for Color {
    /// All tags unspecified.
    fn default() -> Self {
        Self { primaries: 2, transfer: 2, matrix: 2, range: ColorRange::Unspecified, chroma: 0 }
    }
}

impl Color {
    /// BT.709, limited range: the tags of a generated video.
    pub const BT709: Self = Self { primaries: 1, transfer: 1, matrix: 1, range: ColorRange::Limited, chroma: 1 };

    /// Fills in the tags that conversion needs. An unspecified matrix, and the matrix of an RGB source, depends on the
    /// size as in players (mpv, VLC): BT.709 from 1280 columns or 577 rows, else BT.601. An unspecified range is
    /// limited. Primaries and transfer do not change.
    ///
    /// A source is resolved by its own size and the output is tagged explicitly, so upscaling past the border does not
    /// change colours.
    #[must_use]
    pub fn resolved(self, width: usize, height: usize) -> Self {
        let by_size = if width >= 1280 || height > 576 { 1 } else { 6 };
        Self {
            matrix: if matches!(self.matrix, 0 | 2) { by_size } else { self.matrix },
            range: if self.range == ColorRange::Unspecified { ColorRange::Limited } else { self.range },
            ..self
        }
    }

    /// Whether swscale supports the matrix (H.273: 1, 4–7, 9).
    pub(crate) fn has_known_matrix(&self) -> bool {
        matches!(self.matrix, 1 | 4..=7 | 9)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.range == ColorRange::Full
    }

    pub(crate) fn of_parameters(p: &ffi::AVCodecParameters) -> Self {
        // SAFETY: fields of a borrowed structure.
        unsafe {
            Self {
                primaries: number(&raw const p.color_primaries),
                transfer: number(&raw const p.color_trc),
                matrix: number(&raw const p.color_space),
                range: range(number(&raw const p.color_range), p.format),
                chroma: number(&raw const p.chroma_location),
            }
        }
    }

    pub(crate) fn of_frame(f: &ffi::AVFrame) -> Self {
        // SAFETY: fields of a borrowed structure.
        unsafe {
            Self {
                primaries: number(&raw const f.color_primaries),
                transfer: number(&raw const f.color_trc),
                matrix: number(&raw const f.colorspace),
                range: range(number(&raw const f.color_range), f.format),
                chroma: number(&raw const f.chroma_location),
            }
        }
    }

    /// Writes the tags to an encoder.
    pub(crate) fn tag(&self, context: &mut ffi::AVCodecContext) {
        // SAFETY: the numbers were read from fields of the same types, or are constants of them.
        unsafe {
            (&raw mut context.color_primaries).cast::<i32>().write(self.primaries);
            (&raw mut context.color_trc).cast::<i32>().write(self.transfer);
            (&raw mut context.colorspace).cast::<i32>().write(self.matrix);
            (&raw mut context.chroma_sample_location).cast::<i32>().write(self.chroma);
        }
        context.color_range = match self.range {
            ColorRange::Unspecified => ffi::AVColorRange::AVCOL_RANGE_UNSPECIFIED,
            ColorRange::Limited => ffi::AVColorRange::AVCOL_RANGE_MPEG,
            ColorRange::Full => ffi::AVColorRange::AVCOL_RANGE_JPEG,
        };
    }
}

/// The range from its tag, or from a pixel format that implies full range.
fn range(tag: i32, format: i32) -> ColorRange {
    use ffi::AVPixelFormat::*;
    let implied =
        [AV_PIX_FMT_YUVJ420P, AV_PIX_FMT_YUVJ422P, AV_PIX_FMT_YUVJ444P, AV_PIX_FMT_YUVJ440P, AV_PIX_FMT_YUVJ411P];
    match tag {
        _ if implied.iter().any(|f| *f as i32 == format) => ColorRange::Full,
        1 => ColorRange::Limited,
        2 => ColorRange::Full,
        _ => ColorRange::Unspecified,
    }
}
