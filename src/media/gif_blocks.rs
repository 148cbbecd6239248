//! The blocks of a GIF (GIF89a). Pixels are skipped.

use std::io::{self, BufReader, Read, Seek};

/// A block that matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GifBlock {
    /// A frame begins.
    Frame,
    /// How often the animation is shown, 0: endless.
    Loops(u32),
}

/// Reads blocks up to the end or the first one that is unknown. An error means that the file ends early.
pub(super) struct GifBlocks<F> {
    file: BufReader<F>,
    /// Flags of a frame whose pixels are still to be skipped.
    frame: Option<u8>,
}

impl<F: Read + Seek> GifBlocks<F> {
    /// Reads the header.
    pub(super) fn new(file: F) -> io::Result<Self> {
        let mut file = BufReader::new(file);
        let head: [u8; 13] = bytes(&mut file)?;
        file.seek_relative(color_table(head[10]))?;
        Ok(Self { file, frame: None })
    }

    fn read(&mut self) -> io::Result<Option<GifBlock>> {
        if let Some(flags) = self.frame.take() {
            // After the colour table, the code size.
            self.file.seek_relative(color_table(flags) + 1)?;
            self.skip_sub_blocks()?;
        }
        loop {
            match bytes(&mut self.file)? {
                [0x21] => {
                    if let Some(count) = self.extension()? {
                        return Ok(Some(GifBlock::Loops(count)));
                    }
                }
                [0x2c] => {
                    // Its rectangle and flags.
                    let frame: [u8; 9] = bytes(&mut self.file)?;
                    self.frame = Some(frame[8]);
                    return Ok(Some(GifBlock::Frame));
                }
                _ => return Ok(None),
            }
        }
    }

    /// Reads an extension. Returns the loop count, if it is the application extension for it (GIF89a §26).
    fn extension(&mut self) -> io::Result<Option<u32>> {
        let [label] = bytes(&mut self.file)?;
        if label != 0xff {
            return self.skip_sub_blocks().map(|()| None);
        }
        let name = self.sub_block()?;
        let mut count = None;
        let mut ended = name.is_empty();
        if [&b"NETSCAPE2.0"[..], b"ANIMEXTS1.0"].contains(&&*name) {
            let data = self.sub_block()?;
            ended = data.is_empty();
            if let [1, low, high, ..] = *data {
                // The number of repetitions; 0 is endless.
                let repetitions = u32::from(u16::from_le_bytes([low, high]));
                count = Some(if repetitions == 0 { 0 } else { repetitions + 1 });
            }
        }
        if !ended {
            self.skip_sub_blocks()?;
        }
        Ok(count)
    }

    /// The next sub-block; empty: the last one.
    fn sub_block(&mut self) -> io::Result<Vec<u8>> {
        let [length] = bytes(&mut self.file)?;
        let mut data = vec![0; length.into()];
        self.file.read_exact(&mut data).map(|()| data)
    }

    fn skip_sub_blocks(&mut self) -> io::Result<()> {
        loop {
            match bytes(&mut self.file)? {
                [0] => return Ok(()),
                [length] => self.file.seek_relative(length.into())?,
            }
        }
    }
}

impl<F: Read + Seek> Iterator for GifBlocks<F> {
    type Item = io::Result<GifBlock>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().transpose()
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

    /// Blocks after the screen, and what is read: `f` a frame, a number: a loop count, `!` an early end.
    #[test]
    fn frames_and_counts_are_found() {
        let (endless, twice) = (repeats(b"NETSCAPE2.0", 0), repeats(b"NETSCAPE2.0", 1));
        let (other, most) = (repeats(b"ANIMEXTS1.0", 2), repeats(b"NETSCAPE2.0", u16::MAX));
        let foreign = repeats(b"XMP DataXMP", 7);
        let (empty, unnamed) = (b"\x21\xff\x0bNETSCAPE2.0\0", b"\x21\xff\0");
        type Row<'a> = (&'a str, &'a [&'a [u8]], &'a str);
        let rows: &[Row<'_>] = &[
            ("without", &[CONTROL, FRAME, FRAME, b"\x3b"], "f f"),
            ("endless", &[&endless, CONTROL, FRAME, b"\x3b"], "0 f"),
            ("twice", &[&twice, FRAME, b"\x3b"], "2 f"),
            ("another name", &[&other, FRAME, b"\x3b"], "3 f"),
            ("the most", &[&most, b"\x3b"], "65536"),
            ("after a frame", &[CONTROL, FRAME, TABLED, &twice, FRAME, b"\x3b"], "f f 2 f"),
            ("in a comment", &[COMMENT, FRAME, b"\x3b"], "f"),
            ("after a comment", &[COMMENT, &endless, FRAME, b"\x3b"], "0 f"),
            ("of another program", &[&foreign, FRAME, &twice, b"\x3b"], "f 2"),
            ("without data", &[empty, FRAME, &endless, b"\x3b"], "f 0"),
            ("without a name", &[unnamed, &endless, b"\x3b"], "0"),
            ("after the end", &[FRAME, b"\x3b", &twice], "f"),
            ("no block", &[b"\x07", &twice], ""),
            ("no trailer", &[FRAME, FRAME], "f f !"),
            ("half a frame", &[FRAME, &FRAME[..12]], "f f !"),
            ("half a descriptor", &[FRAME, &FRAME[..5]], "f !"),
            ("half a count", &[&endless[..15]], "!"),
        ];
        let mut wrong = Vec::new();
        for (name, blocks, want) in rows {
            let file = [&[SCREEN], *blocks].concat().concat();
            let mut found = Vec::new();
            for block in GifBlocks::new(io::Cursor::new(&file)).into_iter().flatten() {
                let ended = block.is_err();
                found.push(match block {
                    Ok(GifBlock::Frame) => "f".to_owned(),
                    Ok(GifBlock::Loops(count)) => count.to_string(),
                    Err(_) => "!".to_owned(),
                });
                if ended {
                    break;
                }
            }
            if found.join(" ") != *want {
                wrong.push(format!("{name}: wanted {want}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
