//! The file format of a chunk.
//!
//! `HEAD`; the codec header (length, bytes); then packets: pts, dts, duration, flags, side data (count, then type,
//! length, bytes of each), data (length, bytes). Numbers are little-endian. Times are exact, unlike in containers.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use ffmpeg_next::{
    Packet, ffi,
    packet::{Mut, Ref},
};

use crate::error::{Error, Result};

pub(crate) const HEAD: &[u8] = b"crescendo packets 1\n";

/// Maximum length of a field. A longer one means that the file is damaged.
const LONGEST: u32 = 1 << 30;

/// Writes a packet file and hashes its bytes.
pub(crate) struct PacketWriter {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl PacketWriter {
    /// Creates the file and writes the codec header. Errors: a file that cannot be written.
    pub(crate) fn create(path: &Path, head: &[u8]) -> Result<Self> {
        let file = File::create(path).map_err(|e| Error::io("writing", path, &e))?;
        let file = BufWriter::new(file);
        let mut writer = Self { path: path.into(), file, hasher: blake3::Hasher::new(), bytes: 0 };
        let begin = writer.put(HEAD).and_then(|()| writer.sized(head));
        begin.map_err(|e| Error::io("writing", path, &e))?;
        Ok(writer)
    }

    /// Appends a packet. Errors: a file that cannot be written.
    pub(crate) fn write(&mut self, packet: &Packet) -> Result<()> {
        self.packet(packet).map_err(|e| Error::io("writing", &self.path, &e))
    }

    /// Flushes the buffer. Returns the file, the BLAKE3 hash of its bytes in hexadecimal, and its size.
    pub(crate) fn finish(self) -> Result<(File, String, u64)> {
        let file = self.file.into_inner().map_err(|e| Error::io("writing", &self.path, e.error()))?;
        Ok((file, self.hasher.finalize().to_hex().to_string(), self.bytes))
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Writes a length and bytes.
    fn sized(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.put(&(bytes.len() as u32).to_le_bytes())?;
        self.put(bytes)
    }

    fn packet(&mut self, packet: &Packet) -> std::io::Result<()> {
        // SAFETY: a packet that an encoder filled: data and side data have the stated lengths.
        let (raw, data, side) = unsafe {
            let raw = &*packet.as_ptr();
            let bytes = |at: *const u8, length: usize| match at.is_null() || length == 0 {
                true => &[][..],
                false => std::slice::from_raw_parts(at, length),
            };
            let count = usize::try_from(raw.side_data_elems).unwrap_or(0);
            let side = (0..count).map(|i| &*raw.side_data.add(i));
            let side: Vec<_> = side.map(|s| (s.type_ as u32, bytes(s.data, s.size))).collect();
            (raw, bytes(raw.data, raw.size.max(0) as usize), side)
        };
        for number in [raw.pts, raw.dts, raw.duration] {
            self.put(&number.to_le_bytes())?;
        }
        self.put(&raw.flags.to_le_bytes())?;
        self.put(&(side.len() as u32).to_le_bytes())?;
        for (kind, bytes) in side {
            self.put(&kind.to_le_bytes())?;
            self.sized(bytes)?;
        }
        self.sized(data)
    }
}

/// Reads the packets of a chunk in order.
pub(crate) struct PacketReader {
    path: PathBuf,
    file: BufReader<File>,
    /// The codec header.
    pub head: Vec<u8>,
}

impl PacketReader {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("reading", path, &e);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = [0; HEAD.len()];
        file.read_exact(&mut magic).map_err(failed)?;
        let head = sized(&mut file).map_err(failed)?;
        if magic != HEAD {
            return Err(Error::failed(format!("{} is not a chunk of a video", path.display())));
        }
        Ok(Self { path: path.into(), file, head })
    }

    fn read(&mut self) -> std::io::Result<Option<Packet>> {
        if std::io::BufRead::fill_buf(&mut self.file)?.is_empty() {
            return Ok(None);
        }
        let file = &mut self.file;
        let [pts, dts, duration] = [(); 3].map(|()| array(file).map(i64::from_le_bytes));
        let flags = i32::from_le_bytes(array(file)?);
        let count = u32::from_le_bytes(array(file)?);
        let side: Vec<_> =
            (0..count).map(|_| Ok((u32::from_le_bytes(array(file)?), sized(file)?))).collect::<std::io::Result<_>>()?;
        let mut packet = Packet::copy(&sized(file)?);
        // SAFETY: the packet is owned. FFmpeg allocates side data of the length that is then filled. The types were
        // written by this program from the same enum of the same library.
        unsafe {
            let raw = &mut *packet.as_mut_ptr();
            (raw.pts, raw.dts, raw.duration, raw.flags) = (pts?, dts?, duration?, flags);
            for (kind, bytes) in side {
                let kind: ffi::AVPacketSideDataType = std::mem::transmute(kind);
                let room = ffi::av_packet_new_side_data(raw, kind, bytes.len());
                if !room.is_null() {
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
                }
            }
        }
        Ok(Some(packet))
    }
}

impl Iterator for PacketReader {
    type Item = Result<Packet>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|e| Error::io("reading", &self.path, &e)).transpose()
    }
}

fn array<const N: usize>(file: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

fn sized(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let length = u32::from_le_bytes(array(file)?);
    if length > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map(|()| bytes)
}
