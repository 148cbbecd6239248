//! Chunks: parts of a long video that are encoded separately, so that an interrupted run can resume.
//!
//! A chunk is the packets of one encoder, with their exact times, in a packet file beside the
//! output. It starts with a key frame and does not depend on earlier chunks. At the end [`join`] copies the packets of
//! all chunks into the container, with the source's other streams, without encoding again. The result depends only on
//! the chunks, the spec and the source.

use std::{
    fs::File,
    path::{Path, PathBuf},
};

pub use super::chunk_record::Chunk;
use super::{
    container::container,
    frames::FrameEncoder,
    muxer::Muxer,
    packet_file::{PacketReader, PacketWriter},
    packets::{restored, stored},
    spec::{Summary, VideoOptions, VideoSpec},
};
use crate::{
    error::{Error, Result},
    files::PendingFile,
    media::format::FileFormat,
    tensor::Frame,
};

/// Whether a file of this name can be joined from chunks. Animated pictures cannot.
pub fn supports_chunks(target: &Path) -> bool {
    !FileFormat::of_path(target).is_some_and(|format| format.animated)
}

/// Opens the encoder and the container and closes them, so that errors appear before any work is done.
///
/// Errors: those of [`Writer::create`](crate::media::video::Writer::create).
pub fn dry_run(pending: PendingFile, options: &VideoOptions, spec: &VideoSpec) -> Result<PendingFile> {
    let (target, form) = container(pending.target(), spec.plays.is_some())?;
    let mut encode = FrameEncoder::open(form.encoder_requirements(), options, spec, pending.target().into(), None)?;
    Muxer::open(pending, target, form.name, options, spec, &mut encode.encoder).map(|muxer| muxer.pending)
}

/// Writes a file from finished chunks. The file is not named yet.
///
/// Errors: a chunk that cannot be read or was written by an incompatible encoder, a full disk, those of
/// [`Writer::create`](crate::media::video::Writer::create).
pub fn join(
    pending: PendingFile,
    options: &VideoOptions,
    spec: &VideoSpec,
    chunks: &[Chunk],
) -> Result<(PendingFile, Summary)> {
    let (target, form) = container(pending.target(), spec.plays.is_some())?;
    let totals = chunks.last().map(|c| c.totals.clone()).unwrap_or_default();
    let mut encode =
        FrameEncoder::open(form.encoder_requirements(), options, spec, pending.target().into(), Some(totals))?;
    let mut muxer = Muxer::open(pending, target, form.name, options, spec, &mut encode.encoder)?;
    muxer.concatenates = true;
    let head = encode.head();
    for chunk in chunks {
        let packets = PacketReader::open(&chunk.file)?;
        if packets.head != head {
            let (file, name) = (chunk.file.display(), &encode.encoder.name);
            return Err(muxer.failed(&format!(
                "{file} was written by an incompatible {name}, so the chunks cannot be joined; --overwrite starts again"
            )));
        }
        for packet in packets {
            crate::progress::check()?;
            muxer.write(restored(&packet?, &chunk.file)?)?;
        }
        muxer.check_disk()?;
    }
    muxer.close(encode.encoder, &encode.totals)
}

/// Encodes frames to a chunk with a new encoder.
pub struct ChunkWriter {
    encode: FrameEncoder,
    file: PacketWriter,
    path: PathBuf,
}

/// The file of a chunk that is written but may not be on disk yet.
pub struct UnsyncedChunk(File, PathBuf);

impl UnsyncedChunk {
    /// Waits until the file is on disk.
    pub fn sync(self) -> Result<()> {
        self.0.sync_all().map_err(|e| Error::io("writing", &self.1, &e))
    }
}

impl ChunkWriter {
    /// Creates the file and the encoder of the chunk that follows `before`, for the video `target`.
    pub fn create(
        path: &Path,
        target: &Path,
        options: &VideoOptions,
        spec: &VideoSpec,
        before: Option<&Chunk>,
    ) -> Result<Self> {
        let (_, form) = container(target, spec.plays.is_some())?;
        let totals = before.map(|chunk| chunk.totals.clone());
        let encode = FrameEncoder::open(form.encoder_requirements(), options, spec, target.into(), totals)?;
        let file = PacketWriter::create(path, &encode.head())?;
        Ok(Self { encode, file, path: path.into() })
    }

    /// Encodes a frame. Errors: those of [`Writer::write_at`](crate::media::video::Writer::write_at).
    pub fn write_at(&mut self, frame: &Frame, pts: i64, duration: i64) -> Result<()> {
        let Self { encode, file, .. } = self;
        encode.write_at(frame, pts, duration, &mut |packet| file.write(&stored(&packet)))
    }

    /// Flushes the encoder and the file. The file is on disk after [`UnsyncedChunk::sync`].
    pub fn finish(mut self) -> Result<(UnsyncedChunk, Chunk)> {
        let Self { encode, file, .. } = &mut self;
        encode.finish(&mut |packet| file.write(&stored(&packet)))?;
        let (file, hash, bytes) = self.file.finish()?;
        let written = UnsyncedChunk(file, self.path.clone());
        Ok((written, Chunk { file: self.path, hash, bytes, totals: self.encode.totals }))
    }
}
