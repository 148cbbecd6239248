//! Hashes FFmpeg's frames in an encoder's own pixel format.

use ffmpeg_next::{ffi, frame};

use super::{format::PixelFormat, hash::PixelHash};
use crate::{error::Result, tensor::filled};

impl PixelHash {
    /// A hash of no frames; `None`: the encoder is not lossless.
    pub(crate) fn of_encoder(context: &ffi::AVCodecContext) -> Option<Self> {
        // SAFETY: FFmpeg looks the number up and returns a constant or null.
        let described = unsafe { ffi::avcodec_descriptor_get(context.codec_id).as_ref() }?;
        let lossless = described.props & (ffi::AV_CODEC_PROP_LOSSLESS | ffi::AV_CODEC_PROP_LOSSY);
        (lossless == ffi::AV_CODEC_PROP_LOSSLESS).then(|| Self::new(context.pix_fmt as i32))
    }

    /// Adds a frame. `false`: it has another pixel format, so hashes cannot be compared. Errors: out of memory.
    pub(crate) fn add(&mut self, frame: &frame::Video) -> Result<bool> {
        // SAFETY: the frame owns its planes. FFmpeg writes at most the given length.
        unsafe {
            let raw = &*frame.as_ptr();
            let known = PixelFormat::of(raw.format).filter(|_| raw.format == self.format);
            let Some((format, _)) = known else { return Ok(false) };
            let size = ffi::av_image_get_buffer_size(format, raw.width, raw.height, 1);
            let Ok(length) = usize::try_from(size) else { return Ok(false) };
            if self.buffer.len() != length {
                self.buffer = filled(length)?;
            }
            let (data, strides) = (raw.data.as_ptr().cast(), raw.linesize.as_ptr());
            let (width, height) = (raw.width, raw.height);
            ffi::av_image_copy_to_buffer(self.buffer.as_mut_ptr(), size, data, strides, format, width, height, 1);
        }
        self.add_buffer();
        Ok(true)
    }
}
