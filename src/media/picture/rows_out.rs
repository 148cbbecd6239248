//! Writes the rows of an RGB picture one after another.

use std::path::Path;

use super::{
    Picture, PictureOptions, eight_bit::without_repetition, jpeg_out::JpegRows, png_out::PngRows, rows_in::RowReader,
    tiff::TiffRows,
};
use crate::{
    error::{At, Error, Result},
    files::PendingFile,
    media::format::PictureFormat,
    tensor::{Frame, RowSource, Samples},
};

/// Rows that are read back at once.
const VERIFIED_ROWS: usize = 64;

enum Format {
    Png(Box<PngRows>),
    Tiff(TiffRows),
    Jpeg(JpegRows),
}

/// Writes the rows of an RGB picture to a file. The bytes are those of [`write_in`](super::write_in).
pub struct RowWriter {
    format: Format,
    /// Size, depth and metadata.
    head: Picture,
    name: String,
    /// Hash of all samples, if the file is read back.
    hash: Option<blake3::Hasher>,
}

/// Whether pictures of a format are written in rows. `verify`: and the file can be read back in rows.
pub fn writes_rows(format: PictureFormat, verify: bool) -> bool {
    match format {
        PictureFormat::Png => true,
        PictureFormat::Tiff | PictureFormat::Jpeg => !verify,
        _ => false,
    }
}

impl RowWriter {
    /// Begins a file. The frame of `head` has the size and depth of the picture, three channels, and no samples.
    ///
    /// # Errors
    /// Those of [`encode`](super::encode); a format that is not [written in rows](writes_rows).
    pub fn create(
        pending: &PendingFile,
        head: Picture,
        format: PictureFormat,
        options: &PictureOptions,
    ) -> Result<Self> {
        let name = pending.target().display().to_string();
        let file = pending.open().map_err(|e| Error::io("writing", pending.target(), &e))?;
        super::check_size(format, (head.frame.width, head.frame.height)).at(&name)?;
        let format = match format {
            PictureFormat::Png => PngRows::create(file, &head).map(|rows| Format::Png(Box::new(rows))),
            PictureFormat::Tiff => TiffRows::create(file, &head).map(Format::Tiff),
            PictureFormat::Jpeg => JpegRows::create(file, &head, options.quality).map(Format::Jpeg),
            other => Err(Error::failed(format!("a {} is not written in rows", other.name()))),
        };
        let hash = options.verify.then(blake3::Hasher::new);
        Ok(Self { format: format.at(&name)?, head, name, hash })
    }

    /// Writes the next rows.
    ///
    /// # Errors
    /// A full disk.
    pub fn write(&mut self, rows: &Frame) -> Result<()> {
        if let Some(hash) = &mut self.hash {
            add(hash, &rows.samples);
        }
        let samples = without_repetition(rows, self.head.grey).0;
        let written = match &mut self.format {
            Format::Png(png) => png.write(&samples),
            Format::Tiff(tiff) => tiff.write(&samples),
            Format::Jpeg(jpeg) => jpeg.write(&samples),
        };
        written.at(&self.name)
    }

    /// Ends the file, and reads it back if that was asked for.
    ///
    /// # Errors
    /// A full disk; rows that are missing; a file with other samples.
    pub fn finish(self, pending: &PendingFile) -> Result<()> {
        let finished = match self.format {
            Format::Png(png) => png.finish(),
            Format::Tiff(tiff) => tiff.finish(&self.head),
            Format::Jpeg(jpeg) => jpeg.finish(),
        };
        finished.at(&self.name)?;
        let Some(hash) = self.hash else { return Ok(()) };
        let found = read_back(pending.temporary(), &self.head.frame).at(format!("writing {}", self.name))?;
        if found == hash.finalize() {
            return Ok(());
        }
        let name = self.name;
        Err(Error::failed(format!(
            "writing {name}: the file decodes to different samples, although its format is lossless; write it again"
        )))
    }
}

/// The hash of the samples of a file.
fn read_back(path: &Path, wanted: &Frame) -> Result<blake3::Hash> {
    let (_, mut rows) = RowReader::open(path, Some(PictureFormat::Png))?;
    let found = rows.header().clone();
    if found != *wanted {
        let (w, h) = (wanted.width, wanted.height);
        let sizes = format!("{}x{}, expected {w}x{h}", found.width, found.height);
        return Err(Error::failed(format!("the file decodes to {sizes}; write it again")));
    }
    let mut hash = blake3::Hasher::new();
    for from in (0..found.height).step_by(VERIFIED_ROWS) {
        let (frame, _) = rows.window(from..(from + VERIFIED_ROWS).min(found.height))?;
        add(&mut hash, &frame.samples);
    }
    Ok(hash.finalize())
}

fn add(hash: &mut blake3::Hasher, samples: &Samples) {
    match samples {
        Samples::U8(s) => hash.update(s),
        Samples::U16(s) => hash.update(bytemuck::cast_slice(s)),
    };
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::media::picture::{decode::read, encode::write};

    /// A picture with comments and profiles, of a size that is no multiple of a JPEG block.
    fn pictures() -> Vec<Picture> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures");
        let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
        let read: Vec<_> = files.filter_map(|path| read(&path).ok()).collect();
        let mut pictures: Vec<_> = read.into_iter().filter(|p| p.frame.channels == 3 && p.pages.is_empty()).collect();
        let text = vec![("Comment".to_owned(), "a lake".to_owned()), ("parameters".to_owned(), "Seed: 4".to_owned())];
        let samples = (0..61 * 43 * 3).map(|i: usize| (i * i % 251) as u8).collect();
        let frame = Frame { width: 61, height: 43, channels: 3, samples: Samples::U8(samples) };
        pictures.push(Picture { text, ..frame.into() });
        let (size, row) = ((300, 700), |y: usize, x: usize| [(x * 80 + y) as u16; 3]);
        let samples = (0..size.0 * size.1).flat_map(|i| row(i / size.1, i % size.1)).collect();
        let frame = Frame { width: size.1, height: size.0, channels: 3, samples: Samples::U16(samples) };
        pictures.extend([false, true].map(|grey| Picture { grey, ..frame.clone().into() }));
        pictures
    }

    /// Writes a picture in bands of `step` rows.
    fn in_rows(path: &Path, picture: &Picture, step: usize, options: &PictureOptions) -> Result<()> {
        let (frame, folder) = (&picture.frame, PendingFile::create(path, true)?);
        let head = Frame::empty((frame.height, frame.width), frame.is_deep());
        let head = Picture { frame: head, ..picture.clone() };
        let mut writer = RowWriter::create(&folder, head, PictureFormat::of_name(path)?, options)?;
        for from in (0..frame.height).step_by(step) {
            let planes = frame.rows(from..(from + step).min(frame.height))?;
            writer.write(&Frame::from_planes(&planes, frame.is_deep())?)?;
        }
        writer.finish(&folder)?;
        folder.commit().map(drop)
    }

    #[test]
    fn files_equal_those_of_whole_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let pictures = pictures();
        assert!(pictures.len() >= 5);
        for (k, picture) in pictures.iter().enumerate() {
            for name in ["a.png", "a.tiff", "a.jpg"] {
                let (whole, rows) = (folder.path().join(format!("whole-{name}")), folder.path().join(name));
                let options = PictureOptions { quality: 90, overwrite: true, ..PictureOptions::default() };
                write(&whole, picture, &options).unwrap();
                let steps: &[usize] = if picture.frame.height > 100 { &[77] } else { &[1, 5, 8, 1000] };
                for &step in steps {
                    let verify = name == "a.png" && matches!(step, 5 | 77);
                    in_rows(&rows, picture, step, &PictureOptions { verify, ..options.clone() }).unwrap();
                    assert!(std::fs::read(&whole).unwrap() == std::fs::read(&rows).unwrap(), "{k} {name} {step}");
                }
            }
        }
    }

    #[test]
    fn missing_rows_are_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.png", "a.tiff", "a.jpg"] {
            let pending = PendingFile::create(&folder.path().join(name), true).unwrap();
            let head: Picture = Frame::empty((20, 9), false).into();
            let format = PictureFormat::of_name(pending.target()).unwrap();
            let mut writer = RowWriter::create(&pending, head, format, &PictureOptions::default()).unwrap();
            writer.write(&Frame::zeros((12, 9), 3, false).unwrap()).unwrap();
            assert!(writer.finish(&pending).is_err(), "{name}");
        }
    }
}
