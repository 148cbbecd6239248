//! Which of FFmpeg's demuxers are used.
//!
//! FFmpeg chooses the demuxer by content, so a file of any name can select any of them. Only containers that hold their
//! frames themselves are allowed. `docs/demuxers.md` lists all demuxers with the decision; a test compares it with the
//! linked FFmpeg.

/// FFmpeg's names of the demuxers that are used. The first name of a demuxer with several counts.
const ALLOWED: [&str; 37] = [
    "apng",
    "asf",
    "av1",
    "avi",
    "bink",
    "dhav",
    "dirac",
    "dnxhd",
    "dv",
    "flv",
    "gif",
    "gxf",
    "h261",
    "h263",
    "h264",
    "hevc",
    "ivf",
    "m4v",
    "matroska",
    "mjpeg",
    "mov",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "mxf",
    "nsv",
    "nut",
    "obu",
    "ogg",
    "rm",
    "smk",
    "vc1",
    "vc1test",
    "vvc",
    // Still pictures that the encoder of animated WebP writes when all frames are equal.
    "webp_pipe",
    "wtv",
    "yuv4mpegpipe",
];

/// Demuxers that open other files or addresses.
const REFERRING: [&str; 12] =
    ["concat", "dash", "hls", "image2", "imf", "mlv", "rtp", "rtsp", "sap", "sdp", "vobsub", "webm_dash_manifest"];

/// Whether a demuxer is used. `name`: FFmpeg's, with commas if it has several.
pub(crate) fn is_allowed(name: &str) -> bool {
    ALLOWED.contains(&first(name))
}

/// Whether a demuxer opens other files or addresses.
pub(crate) fn refers_to_others(name: &str) -> bool {
    REFERRING.contains(&first(name))
}

/// The allowed demuxers as FFmpeg's option `format_whitelist`.
pub(crate) fn whitelist() -> String {
    ALLOWED.join(",")
}

fn first(name: &str) -> &str {
    name.split(',').next().unwrap_or(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use ffmpeg_next::ffi;

    use super::*;
    use crate::media::video::ffmpeg::{self, text};

    /// The rows of docs/demuxers.md: name → (decision, reason).
    fn table() -> BTreeMap<String, (String, String)> {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/demuxers.md");
        let document = std::fs::read_to_string(file).unwrap();
        let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
        rows.map(|(name, rest)| {
            let cells: Vec<_> = rest.split('|').map(str::trim).collect();
            (name.to_owned(), (cells[2].to_owned(), cells[3].to_owned()))
        })
        .collect()
    }

    fn linked() -> Vec<String> {
        ffmpeg::init();
        let mut position = std::ptr::null_mut();
        // SAFETY: FFmpeg keeps the position in the variable and returns static demuxers, then null.
        std::iter::from_fn(|| unsafe { ffi::av_demuxer_iterate(&mut position).as_ref() })
            .map(|demuxer| text(demuxer.name))
            .collect()
    }

    #[test]
    fn the_table_has_every_linked_demuxer() {
        let table = table();
        let missing: Vec<_> = linked().into_iter().filter(|name| !table.contains_key(name)).collect();
        assert!(missing.is_empty(), "docs/demuxers.md lacks {missing:?}: add a row each, with a decision");
    }

    #[test]
    fn the_table_states_the_decisions() {
        let table = table();
        assert!(table.len() > 300, "{} rows", table.len());
        let wrong: Vec<_> = table
            .iter()
            .filter(|(name, (decision, reason))| {
                let refers = reason == "opens other files or addresses";
                (decision == "read") != is_allowed(name) || refers != refers_to_others(name)
            })
            .collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        let unknown = |list: &[&str]| -> Vec<String> {
            let listed = |name: &str| table.keys().any(|row| first(row) == name);
            list.iter().filter(|name| !listed(name)).map(ToString::to_string).collect()
        };
        assert_eq!((unknown(&ALLOWED), unknown(&REFERRING)), (vec![], vec![]));
    }
}
