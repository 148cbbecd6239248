//! Pieces of a long video: the packets of one encoder each, in a file of their own beside the result.
//!
//! A file is `HEAD`, the encoder's head (length, bytes), then packets: time stamps, duration, flags, side data (count; kind, length,
//! bytes), data (length, bytes). Numbers are little-endian; no container rounds their times.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Read, Write},
    path::{Path, PathBuf},
};

use ffmpeg_next::{
    Packet, ffi,
    packet::{Mut, Ref},
};
use serde::{Deserialize, Serialize};

use super::{
    encode::{Encode, Given},
    output::{VideoOptions, VideoSpec},
    writer,
};
use crate::{
    error::{Error, Result},
    media::{PendingFile, format::FileFormat},
    tensor::Frame,
};

const HEAD: &[u8] = b"crescendo packets 1\n";

/// The longest part of a packet that is believed.
const LONGEST: u32 = 1 << 30;

/// A finished piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Where it is; the journal says where its folder is.
    #[serde(skip)]
    pub file: PathBuf,
    /// BLAKE3 of its bytes, in hexadecimal.
    pub hash: String,
    /// Its length.
    pub bytes: u64,
    /// What encoders were given up to its end.
    pub(super) given: Given,
}

impl Chunk {
    /// Frames of the video up to its end.
    pub fn frames(&self) -> u64 {
        self.given.frames
    }

    /// Whether its file still is what was written.
    pub fn is_whole(&self) -> bool {
        let Ok(mut file) = File::open(&self.file) else { return false };
        let mut hasher = blake3::Hasher::new();
        let same_length = file.metadata().is_ok_and(|m| m.len() == self.bytes);
        same_length && hasher.update_reader(&mut file).is_ok() && hasher.finalize().to_hex().as_str() == self.hash
    }
}

/// Whether a file of this name can be put together from chunks: animated pictures cannot.
pub fn joins(target: &Path) -> bool {
    !FileFormat::of_path(target).is_some_and(|format| format.animated)
}

/// Opens encoder and container once and closes them, so that what cannot be is told before anything is made.
///
/// Errors: those of [`Writer::create`](super::Writer::create).
pub fn rehearse(place: PendingFile, options: &VideoOptions, output: &VideoSpec) -> Result<PendingFile> {
    writer::rehearse(place, options, output)
}

/// Puts finished chunks together, copying their packets, with the source's other streams. The file is not named yet.
///
/// Errors: a chunk that cannot be read; those of [`Writer::create`](super::Writer::create).
pub fn join(
    place: PendingFile,
    options: &VideoOptions,
    output: &VideoSpec,
    chunks: &[Chunk],
) -> Result<(PendingFile, super::Summary)> {
    writer::join(place, options, output, chunks)
}

/// Encodes frames to a chunk, by an encoder of its own, so that it begins with a key frame and depends on nothing before it.
pub struct ChunkWriter {
    encode: Encode,
    file: Hashed,
    path: PathBuf,
}

/// The file of a chunk whose bytes are written and perhaps not yet on disk.
pub struct Written(File, PathBuf);

impl Written {
    /// Waits until it is on disk.
    pub fn sync(self) -> Result<()> {
        self.0.sync_all().map_err(|e| Error::io("writing", &self.1, &e))
    }
}

impl ChunkWriter {
    /// Begins the chunk that follows `before`, in a file that is made anew, for the video `target`.
    pub fn create(
        path: &Path,
        target: &Path,
        options: &VideoOptions,
        output: &VideoSpec,
        before: Option<&Chunk>,
    ) -> Result<Self> {
        let (_, form) = writer::container(target, output.plays.is_some())?;
        let given = before.map(|chunk| chunk.given.clone());
        let encode = Encode::open(form.wants(), options, output, target.into(), given)?;
        let file = File::create(path).map_err(|e| Error::io("writing", path, &e))?;
        let mut file = Hashed { file: BufWriter::new(file), hasher: blake3::Hasher::new(), bytes: 0 };
        let head = encode.head();
        let begin = file.put(HEAD).and_then(|()| file.sized(&head));
        begin.map_err(|e| Error::io("writing", path, &e))?;
        Ok(Self { encode, file, path: path.into() })
    }

    /// Encodes a frame. Errors: those of [`Writer::write_at`](super::Writer::write_at).
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let Self { encode, file, path } = self;
        encode.write_at(frame, pts, duration, &mut |packet| store(file, &packet, path))
    }

    /// Encodes what is left and hands everything to the system; it is on disk after [`Written::sync`].
    pub fn finish(mut self) -> Result<(Written, Chunk)> {
        let Self { encode, file, path } = &mut self;
        encode.finish(&mut |packet| store(file, &packet, path))?;
        let Hashed { file, hasher, bytes } = self.file;
        let file = file.into_inner().map_err(|e| Error::io("writing", &self.path, e.error()))?;
        let hash = hasher.finalize().to_hex().to_string();
        let written = Written(file, self.path.clone());
        Ok((written, Chunk { file: self.path, hash, bytes, given: self.encode.given }))
    }
}

fn store(file: &mut Hashed, packet: &Packet, path: &Path) -> Result<()> {
    file.packet(packet).map_err(|e| Error::io("writing", path, &e))
}

/// A file whose bytes are summed up as they are written.
struct Hashed {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Hashed {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// A length and bytes.
    fn sized(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.put(&(bytes.len() as u32).to_le_bytes())?;
        self.put(bytes)
    }

    fn packet(&mut self, packet: &Packet) -> std::io::Result<()> {
        // SAFETY: a packet that an encoder filled: its data and side data have the lengths that it tells.
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

/// The packets of a chunk, in order.
pub(super) struct Packets {
    path: PathBuf,
    file: BufReader<File>,
    /// The encoder's head.
    pub head: Vec<u8>,
}

impl Packets {
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("reading", path, &e);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = [0; HEAD.len()];
        file.read_exact(&mut magic).map_err(failed)?;
        let head = sized(&mut file).map_err(failed)?;
        if magic != HEAD {
            return Err(Error::failed(format!("{} is no chunk of a video", path.display())));
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
        // SAFETY: the packet is owned; FFmpeg allocates side data of the length that is then filled. Kinds are numbers that this
        // program took from the same list of the same library.
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

impl Iterator for Packets {
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
