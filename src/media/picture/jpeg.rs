//! Parses the marker structure of a JPEG file (ITU-T T.81 annex B) to detect truncated files. Decoders fill missing
//! data with grey instead of failing.

/// The number of components (3: YCbCr, 4: CMYK). Errors: a phrase, if the file ends before its end marker.
pub fn components(bytes: &[u8]) -> Result<u8, &'static str> {
    const CUT: &str = "it has no end marker";
    let mut components = None;
    let mut at = 2;
    loop {
        // Segments follow each other. Within a scan, 0xFF is followed by 0 (stuffing) or a restart marker.
        let (marker, length) = loop {
            match (bytes.get(at).ok_or(CUT)?, bytes.get(at + 1).ok_or(CUT)?) {
                (0xff, 0x00 | 0x01 | 0xd0..=0xd7) => at += 2,
                (0xff, 0xff) => at += 1,
                (0xff, 0xd9) => return components.ok_or("it has no frame header"),
                (0xff, marker) => {
                    let length = bytes.get(at + 2..at + 4).ok_or(CUT)?;
                    break (*marker, usize::from(u16::from_be_bytes([length[0], length[1]])));
                }
                _ => at += 1,
            }
        };
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            components = Some(*bytes.get(at + 9).ok_or(CUT)?);
        }
        at += 2 + length;
    }
}
