//! Metadata of a whole stream.

use ffmpeg_next::ffi;

/// Metadata of a whole stream that is copied unchanged: display matrix (rotation), mastering display, content light
/// level, stereo and spherical layout.
#[derive(Debug, Clone, PartialEq)]
pub struct SideData {
    pub(crate) kind: ffi::AVPacketSideDataType,
    pub(crate) bytes: Vec<u8>,
}

impl SideData {
    pub(crate) fn is_rotation(&self) -> bool {
        self.kind == ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX
    }

    /// A phrase for warnings.
    pub(crate) fn name(&self) -> &'static str {
        use ffi::AVPacketSideDataType::*;
        match self.kind {
            AV_PKT_DATA_DISPLAYMATRIX => "the rotation",
            AV_PKT_DATA_STEREO3D => "the stereo layout",
            AV_PKT_DATA_MASTERING_DISPLAY_METADATA => "HDR10's mastering display",
            AV_PKT_DATA_CONTENT_LIGHT_LEVEL => "HDR10's content light level",
            AV_PKT_DATA_SPHERICAL => "the spherical layout",
            _ => "other side data",
        }
    }
}

pub(crate) fn rotation(side_data: &[SideData]) -> u16 {
    let matrix = side_data.iter().find(|s| s.kind == ffi::AVPacketSideDataType::AV_PKT_DATA_DISPLAYMATRIX);
    let Some(entries) = matrix.map(|m| m.bytes.as_chunks::<4>().0).filter(|m| m.len() == 9) else { return 0 };
    let matrix: Vec<i32> = entries.iter().map(|b| i32::from_ne_bytes(*b)).collect();
    // SAFETY: FFmpeg reads nine numbers. Its angle is counter-clockwise, and NaN for a singular matrix.
    let angle = -unsafe { ffi::av_display_rotation_get(matrix.as_ptr()) };
    if angle.is_finite() { angle.rem_euclid(360.0).round() as u16 % 360 } else { 0 }
}
