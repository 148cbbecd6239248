//! Loop counts of animated pictures.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek},
    path::Path,
};

/// The loop count of an animated GIF or APNG, by the container's name; 0: endless. `None`: another container.
pub(crate) fn plays(path: &Path, container: &str) -> Option<u32> {
    match container {
        // Without the extension, and in a file that ends early, a GIF is shown once.
        "gif" => Some(of_gif(BufReader::new(File::open(path).ok()?)).ok().flatten().unwrap_or(1)),
        "apng" => {
            let reader = png::Decoder::new(BufReader::new(File::open(path).ok()?)).read_info().ok()?;
            reader.info().animation_control.map(|a| a.num_plays)
        }
        _ => None,
    }
}

/// The loop count in the application extension of a GIF (GIF89a §26); `None`: it has none. Pixels are skipped.
pub(crate) fn of_gif<F: Read + Seek>(mut file: BufReader<F>) -> io::Result<Option<u32>> {
    let head: [u8; 13] = bytes(&mut file)?;
    file.seek_relative(color_table(head[10]))?;
    loop {
        match bytes(&mut file)? {
            // An extension, with its label.
            [0x21] => {
                let [label] = bytes(&mut file)?;
                let name = if label == 0xff { sub_block(&mut file)? } else { Vec::new() };
                let loops = [&b"NETSCAPE2.0"[..], b"ANIMEXTS1.0"].contains(&&*name);
                let data = if loops { sub_block(&mut file)? } else { Vec::new() };
                if let [1, low, high, ..] = *data {
                    // The number of repetitions; 0 is endless.
                    let count = u32::from(u16::from_le_bytes([low, high]));
                    return Ok(Some(if count == 0 { 0 } else { count + 1 }));
                }
                let ended = loops && data.is_empty() || label == 0xff && name.is_empty();
                if !ended {
                    skip_sub_blocks(&mut file)?;
                }
            }
            // A frame: its rectangle and flags, its colour table, the code size, the pixels.
            [0x2c] => {
                let frame: [u8; 9] = bytes(&mut file)?;
                file.seek_relative(color_table(frame[8]) + 1)?;
                skip_sub_blocks(&mut file)?;
            }
            _ => return Ok(None),
        }
    }
}

/// Bytes of a colour table by the flags before it.
fn color_table(flags: u8) -> i64 {
    if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) }
}

fn bytes<const N: usize>(file: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

/// The next sub-block; empty: the last one.
fn sub_block(file: &mut impl Read) -> io::Result<Vec<u8>> {
    let [length] = bytes(file)?;
    let mut data = vec![0; length.into()];
    file.read_exact(&mut data).map(|()| data)
}

fn skip_sub_blocks<F: Read + Seek>(file: &mut BufReader<F>) -> io::Result<()> {
    loop {
        match bytes(file)? {
            [0] => return Ok(()),
            [length] => file.seek_relative(length.into())?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: &[u8] = b"GIF89a\x02\0\x02\0\x80\0\0\0\0\0\xff\xff\xff";
    const CONTROL: &[u8] = b"\x21\xf9\x04\0\x0a\0\0\0";
    const FRAME: &[u8] = b"\x2c\0\0\0\0\x02\0\x02\0\0\x02\x02\x84\x51\0";
    const TABLED: &[u8] = b"\x2c\0\0\0\0\x02\0\x02\0\x80\0\0\0\xff\xff\xff\x02\x02\x84\x51\0";
    /// A comment whose text is an extension that repeats five times.
    const COMMENT: &[u8] = b"\x21\xfe\x13\x21\xff\x0bNETSCAPE2.0\x03\x01\x05\0\0\0";

    fn repeats(name: &[u8], count: u16) -> Vec<u8> {
        [b"\x21\xff\x0b", name, b"\x03\x01", &count.to_le_bytes(), b"\0"].concat()
    }

    /// Blocks after the screen, and the loop count.
    #[test]
    fn counts_of_gifs() {
        let (endless, twice) = (repeats(b"NETSCAPE2.0", 0), repeats(b"NETSCAPE2.0", 1));
        let (other, most) = (repeats(b"ANIMEXTS1.0", 2), repeats(b"NETSCAPE2.0", u16::MAX));
        let foreign = repeats(b"XMP DataXMP", 7);
        let empty = b"\x21\xff\x0bNETSCAPE2.0\0".to_vec();
        let unnamed = b"\x21\xff\0".to_vec();
        type Row<'a> = (&'a str, &'a [&'a [u8]], Option<u32>);
        let rows: &[Row<'_>] = &[
            ("without", &[CONTROL, FRAME, FRAME, b"\x3b"], None),
            ("endless", &[&endless, CONTROL, FRAME, b"\x3b"], Some(0)),
            ("twice", &[&twice, FRAME], Some(2)),
            ("another name", &[&other, FRAME], Some(3)),
            ("the most", &[&most], Some(65536)),
            ("after a frame", &[CONTROL, FRAME, TABLED, &twice, FRAME], Some(2)),
            ("in a comment", &[COMMENT, FRAME, b"\x3b"], None),
            ("after a comment", &[COMMENT, &endless, FRAME], Some(0)),
            ("of another program", &[&foreign, FRAME, &twice], Some(2)),
            ("without data", &[&empty, FRAME, &endless], Some(0)),
            ("without a name", &[&unnamed, &endless], Some(0)),
            ("after the end", &[FRAME, b"\x3b", &twice], None),
            ("no block", &[b"\x07", &twice], None),
        ];
        let mut wrong = Vec::new();
        for (name, blocks, want) in rows {
            let file = [&[SCREEN], *blocks].concat().concat();
            let found = of_gif(BufReader::new(io::Cursor::new(&file)));
            // A file that ends early has no trailer.
            if found.as_ref().ok().copied().flatten() != *want {
                wrong.push(format!("{name}: wanted {want:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
