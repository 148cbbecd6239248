//! Loop counts of animated pictures.

use std::{fs::File, io::BufReader, path::Path};

use crate::media::gif_blocks::{GifBlock, GifBlocks};

/// The loop count of an animated GIF or APNG, by the container's name; 0: endless. `None`: another container.
pub(crate) fn plays(path: &Path, container: &str) -> Option<u32> {
    let file = File::open(path).ok()?;
    match container {
        "gif" => {
            let count = |block| if let GifBlock::Loops(count) = block { Some(count) } else { None };
            let blocks = GifBlocks::new(file).into_iter().flatten();
            // Without the extension, a GIF is shown once.
            Some(blocks.map_while(Result::ok).find_map(count).unwrap_or(1))
        }
        "apng" => {
            let reader = png::Decoder::new(BufReader::new(file)).read_info().ok()?;
            reader.info().animation_control.map(|a| a.num_plays)
        }
        _ => None,
    }
}
