//! The chunks of a RIFF file: WebP (RFC 9649 §2.3).

/// A chunk.
pub(crate) struct Chunk<'a> {
    pub name: [u8; 4],
    /// Offset of its data.
    pub at: usize,
    pub data: &'a [u8],
}

/// The chunks of a file, up to the first incomplete one.
pub(crate) fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut at = 12;
    std::iter::from_fn(move || {
        let (name, length) = header(bytes, at)?;
        let chunk = Chunk { name, at: at + 8, data: bytes[at + 8..].get(..length)? };
        at += 8 + length.next_multiple_of(2);
        Some(chunk)
    })
}

/// The name of the first incomplete chunk. `None`: all are complete.
pub(crate) fn incomplete(bytes: &[u8]) -> Option<[u8; 4]> {
    let end = chunks(bytes).last().map_or(12, |chunk| chunk.at + chunk.data.len().next_multiple_of(2));
    header(bytes, end).map(|(name, _)| name)
}

/// The name and the length of the chunk at an offset.
fn header(bytes: &[u8], at: usize) -> Option<([u8; 4], usize)> {
    let [name @ .., l0, l1, l2, l3] = bytes.get(at..)?.first_chunk::<8>()?;
    Some((*name, u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_found_up_to_the_first_incomplete_one() {
        let file = |rest: &[u8]| [b"RIFF\0\0\0\0WEBP", rest].concat();
        let whole = b"VP8X\x03\0\0\0abc\0EXIF\x02\0\0\0de";
        for (length, wanted, cut) in [
            (whole.len(), "VP8X@20:3 EXIF@32:2", None),
            (21, "VP8X@20:3", Some(b"EXIF")),
            (15, "VP8X@20:3", None),
            (10, "", Some(b"VP8X")),
            (0, "", None),
        ] {
            let rest = &whole[..length];
            let bytes = file(rest);
            let name = |name: [u8; 4]| String::from_utf8_lossy(&name).into_owned();
            let found: Vec<_> = chunks(&bytes).map(|c| format!("{}@{}:{}", name(c.name), c.at, c.data.len())).collect();
            assert_eq!((found.join(" "), incomplete(&bytes)), (wanted.to_owned(), cut.copied()), "{rest:?}");
        }
    }
}
