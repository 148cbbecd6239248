//! The file format of a chunk.
//!
//! `HEAD`; the codec header (length, bytes); then packets: pts, dts, duration, flags, side data (count, then type,
//! length, bytes of each), data (length, bytes). Numbers are little-endian. Times are exact, unlike in containers.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use crate::error::{Error, Result};

pub(crate) const HEAD: &[u8] = b"crescendo packets 1\n";

/// Maximum length of a field. A longer one means that the file is damaged.
const LONGEST: u32 = 1 << 30;

/// A packet as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPacket {
    /// Presentation time, decoding time and duration, in ticks.
    pub times: [i64; 3],
    /// FFmpeg's flags.
    pub flags: i32,
    /// Side data: FFmpeg's number of the type, and the bytes.
    pub side_data: Vec<(u32, Vec<u8>)>,
    pub data: Vec<u8>,
}

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
    pub(crate) fn write(&mut self, packet: &StoredPacket) -> Result<()> {
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

    fn packet(&mut self, packet: &StoredPacket) -> std::io::Result<()> {
        for number in packet.times {
            self.put(&number.to_le_bytes())?;
        }
        self.put(&packet.flags.to_le_bytes())?;
        self.put(&(packet.side_data.len() as u32).to_le_bytes())?;
        for (kind, bytes) in &packet.side_data {
            self.put(&kind.to_le_bytes())?;
            self.sized(bytes)?;
        }
        self.sized(&packet.data)
    }
}

/// Reads the packets of a chunk in order.
pub(crate) struct PacketReader<R> {
    path: PathBuf,
    file: R,
    /// The codec header.
    pub head: Vec<u8>,
}

impl PacketReader<BufReader<File>> {
    /// Opens a chunk. Errors: a file that cannot be read, or is none of a chunk.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io("reading", path, &e))?;
        Self::new(BufReader::new(file), path)
    }
}

impl<R: BufRead> PacketReader<R> {
    /// Reads the codec header. `path`: for messages.
    pub(crate) fn new(mut file: R, path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("reading", path, &e);
        let mut magic = [0; HEAD.len()];
        file.read_exact(&mut magic).map_err(failed)?;
        if magic != HEAD {
            return Err(Error::failed(format!("{} is not a chunk of a video", path.display())));
        }
        let head = sized(&mut file).map_err(failed)?;
        Ok(Self { path: path.into(), file, head })
    }

    fn read(&mut self) -> std::io::Result<Option<StoredPacket>> {
        if self.file.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let file = &mut self.file;
        let mut times = [0; 3];
        for time in &mut times {
            *time = i64::from_le_bytes(array(file)?);
        }
        let flags = i32::from_le_bytes(array(file)?);
        let count = u32::from_le_bytes(array(file)?);
        let mut side_data = Vec::new();
        for _ in 0..count {
            side_data.push((u32::from_le_bytes(array(file)?), sized(file)?));
        }
        Ok(Some(StoredPacket { times, flags, side_data, data: sized(file)? }))
    }
}

impl<R: BufRead> Iterator for PacketReader<R> {
    type Item = Result<StoredPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|e| Error::io("reading", &self.path, &e)).transpose()
    }
}

fn array<const N: usize>(file: &mut impl Read) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes).map(|()| bytes)
}

/// Reads a length and bytes. Memory is only taken for bytes that are there.
fn sized(file: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let length = u32::from_le_bytes(array(file)?);
    if length > LONGEST {
        return Err(std::io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() == length as usize { Ok(bytes) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}
