//! Loop counts of animated pictures.

use std::{fs::File, io::BufReader, path::Path};

/// The loop count of an animated GIF or APNG, by the container's name; 0: endless. `None`: another container.
pub(crate) fn plays(path: &Path, container: &str) -> Option<u32> {
    match container {
        "gif" => {
            let bytes = std::fs::read(path).ok()?;
            let name = b"NETSCAPE2.0\x03\x01";
            let Some(at) = bytes.windows(name.len()).position(|w| w == name) else { return Some(1) };
            let count = bytes.get(at + name.len()..at + name.len() + 2)?;
            // GIF stores the number of repetitions; 0 is endless.
            let count = u32::from(u16::from_le_bytes([count[0], count[1]]));
            Some(if count == 0 { 0 } else { count + 1 })
        }
        "apng" => {
            let reader = png::Decoder::new(BufReader::new(File::open(path).ok()?)).read_info().ok()?;
            reader.info().animation_control.map(|a| a.num_plays)
        }
        _ => None,
    }
}
