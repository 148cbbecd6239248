//! HDR10 static metadata as parameters of x264 and x265.

use ffmpeg_next::ffi;

use crate::media::video::side_data::SideData;

/// Mastering display (SMPTE ST 2086) and content light level (CTA-861.3) as parameters of x265: key and value.
/// Incomplete metadata is left out.
pub(crate) fn encoder_parameters(side_data: &[SideData]) -> Vec<(&'static str, String)> {
    use ffi::AVPacketSideDataType::*;
    let numbers = |kind| {
        let bytes = &side_data.iter().find(|s| s.kind == kind)?.bytes;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| i32::from_ne_bytes(*b)).collect::<Vec<_>>())
    };
    let mut parameters = Vec::new();
    // AVMasteringDisplayMetadata: ratios of red, green, blue and white (x, y), of the minimum and the maximum
    // luminance, then a flag for each group.
    if let Some(n) = numbers(AV_PKT_DATA_MASTERING_DISPLAY_METADATA).filter(|n| n.len() >= 22 && n[20] * n[21] != 0) {
        let ratio = |i: usize, unit: f64| (f64::from(n[2 * i]) / f64::from(n[2 * i + 1].max(1)) * unit).round() as i64;
        let at = |i: usize| format!("({},{})", ratio(i, 50_000.0), ratio(i + 1, 50_000.0));
        let light = format!("({},{})", ratio(9, 10_000.0), ratio(8, 10_000.0));
        parameters.push(("master-display", format!("G{}B{}R{}WP{}L{light}", at(2), at(4), at(0), at(6))));
    }
    if let Some(n) = numbers(AV_PKT_DATA_CONTENT_LIGHT_LEVEL).filter(|n| n.len() >= 2) {
        parameters.push(("max-cll", format!("{},{}", n[0], n[1])));
    }
    parameters
}
