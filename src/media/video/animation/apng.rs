//! Frame durations of animated PNG.

use std::{
    fs::File,
    io::{BufReader, Read, Seek, SeekFrom},
    path::Path,
};

use crate::media::video::rational::Rational;

/// The average rate of an animated PNG, from the delays in its `fcTL` chunks. FFmpeg does not estimate the rate of two frames.
/// Of other chunks only the headers are read. `None`: the file is unreadable or has no such chunk.
pub(crate) fn average_rate(path: &Path) -> Option<Rational> {
    rate_of(BufReader::new(File::open(path).ok()?))
}

pub(crate) fn rate_of<F: Read + Seek>(mut file: BufReader<F>) -> Option<Rational> {
    file.seek(SeekFrom::Start(8)).ok()?;
    let (mut frames, mut milliseconds, mut head) = (0_u32, 0.0, [0; 8]);
    while file.read_exact(&mut head).is_ok() {
        let [l0, l1, l2, l3, kind @ ..] = head;
        // The chunk's data and its checksum.
        let mut rest = i64::from(u32::from_be_bytes([l0, l1, l2, l3])) + 4;
        let mut control = [0; 24];
        if kind == *b"fcTL" && rest > control.len() as i64 && file.read_exact(&mut control).is_ok() {
            rest -= control.len() as i64;
            // After the sequence number, the rectangle: numerator and denominator of the delay. A denominator of 0 means 100.
            let delay = u16::from_be_bytes([control[20], control[21]]);
            let unit = u16::from_be_bytes([control[22], control[23]]);
            milliseconds += 1e3 * f64::from(delay) / f64::from(if unit == 0 { 100 } else { unit });
            frames += 1;
        }
        file.seek_relative(rest).ok()?;
    }
    let total = milliseconds.round().max(1.0);
    (frames > 0).then(|| Rational::ratio(u64::from(frames) * 1000, total as u64))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A file that counts the bytes that are read.
    struct Counted<'a>(std::io::Cursor<Vec<u8>>, &'a mut usize);

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.read(buffer)?;
            *self.1 += count;
            Ok(count)
        }
    }

    impl Seek for Counted<'_> {
        fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
            self.0.seek(to)
        }
    }

    /// A chunk without its checksum's value, which is not checked.
    fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
        [&(data.len() as u32).to_be_bytes()[..], kind, data, &[0; 4]].concat()
    }

    /// A frame control with a delay.
    fn frame((delay, unit): (u16, u16)) -> Vec<u8> {
        let mut data = vec![0; 26];
        data[20..22].copy_from_slice(&delay.to_be_bytes());
        data[22..24].copy_from_slice(&unit.to_be_bytes());
        chunk(b"fcTL", &data)
    }

    fn file(delays: &[(u16, u16)], pixels: usize) -> Vec<u8> {
        let frames = delays.iter().flat_map(|delay| [frame(*delay), chunk(b"fdAT", &vec![7; pixels])].concat());
        b"\x89PNG\r\n\x1a\n".iter().copied().chain(chunk(b"IHDR", &[0; 13])).chain(frames).collect()
    }

    /// Delays in seconds as fractions, and the rate in frames per second.
    #[test]
    fn rates_follow_from_delays() {
        type Row<'a> = (&'a [(u16, u16)], Option<f64>);
        let rows: &[Row<'_>] = &[
            (&[], None),
            (&[(1, 10), (1, 10)], Some(10.0)),
            (&[(1, 10), (3, 10)], Some(5.0)),
            (&[(4, 0), (4, 100)], Some(25.0)),
            (&[(0, 1), (0, 1)], Some(2000.0)),
            (&[(65535, 1); 3], Some(1.0 / 65535.0)),
        ];
        let mut wrong = Vec::new();
        for (delays, want) in rows {
            let mut read = 0;
            let found = rate_of(BufReader::new(Counted(std::io::Cursor::new(file(delays, 5)), &mut read)));
            let near = |rate: Rational| want.is_some_and(|want| (rate.value() / want - 1.0).abs() < 1e-3);
            if found.map_or(want.is_some(), |rate| !near(rate)) {
                wrong.push(format!("{delays:?}: wanted {want:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn pixels_are_not_read() {
        let bytes = file(&[(1, 20); 4], 1 << 20);
        let (length, mut read) = (bytes.len(), 0);
        let found = rate_of(BufReader::new(Counted(std::io::Cursor::new(bytes), &mut read)));
        assert_eq!(found.map(Rational::value), Some(20.0));
        assert!(read < length / 40, "{read} of {length} bytes");
    }

    /// A chunk that ends behind the file, a file that ends in a header, and one that is shorter than a signature.
    #[test]
    fn truncated_files_give_what_they_have() {
        let whole = file(&[(1, 10), (1, 10)], 100);
        for (keep, want) in [(whole.len() - 50, Some(10.0)), (whole.len() - 142 - 3, Some(10.0)), (33, None), (3, None)]
        {
            let mut read = 0;
            let cut = Counted(std::io::Cursor::new(whole[..keep].to_vec()), &mut read);
            assert_eq!(rate_of(BufReader::new(cut)).map(Rational::value), want, "{keep} bytes");
        }
    }
}
