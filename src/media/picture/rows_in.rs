//! Reads the rows of an RGB picture one after another.

use std::{ops::Range, path::Path};

use super::{
    Picture,
    decode::{complete, read},
    png_in::PngRows,
    tiff_in::TiffStrips,
};
use crate::{
    error::{Error, Result},
    media::format::PictureFormat,
    tensor::{Frame, RowSource},
};

/// The rows of a picture file from the top. Holds the rows that are asked for, or, of a format that is decoded whole, all.
pub struct RowReader {
    /// Size and depth.
    header: Frame,
    /// The rows that are held, from row `first`.
    held: Frame,
    first: usize,
    /// `None`: all rows are held.
    rows: Option<Rows>,
}

enum Rows {
    Png(Box<PngRows>),
    Tiff(Box<TiffStrips>),
}

impl Rows {
    fn open(path: &Path, format: PictureFormat) -> Result<(Picture, Self)> {
        match format {
            PictureFormat::Png => PngRows::open(path).map(|(picture, rows)| (picture, Self::Png(Box::new(rows)))),
            PictureFormat::Tiff => TiffStrips::open(path).map(|(picture, rows)| (picture, Self::Tiff(Box::new(rows)))),
            other => Err(Error::failed(format!("{}: a {} is not read in rows", path.display(), other.name()))),
        }
    }

    fn append(&mut self, frame: &mut Frame, rows: usize) -> Result<()> {
        match self {
            Self::Png(png) => png.append(frame, rows),
            Self::Tiff(tiff) => tiff.append(frame, rows),
        }
    }
}

impl RowReader {
    /// Opens a picture. Returns its metadata with a frame without samples. `by_rows`: [`Header::by_rows`](super::Header::by_rows) of
    /// the file.
    ///
    /// # Errors
    /// Those of [`read`]; a picture with transparency.
    pub fn open(path: &Path, by_rows: Option<PictureFormat>) -> Result<(Picture, Self)> {
        if let Some(format) = by_rows {
            let (mut picture, rows) = Rows::open(path, format)?;
            complete(&mut picture);
            let header = picture.frame.clone();
            let held = Frame::empty((0, header.width), header.is_deep());
            return Ok((picture, Self { header, held, first: 0, rows: Some(rows) }));
        }
        let mut picture = read(path)?;
        let frame = &picture.frame;
        if frame.channels != 3 {
            let name = path.display();
            return Err(Error::failed(format!("{name}: a picture with transparency is not read in bands")));
        }
        let header = Frame::empty((frame.height, frame.width), frame.is_deep());
        let held = std::mem::replace(&mut picture.frame, header.clone());
        Ok((picture, Self { header, held, first: 0, rows: None }))
    }
}

impl RowSource for RowReader {
    fn header(&self) -> &Frame {
        &self.header
    }

    fn window(&mut self, rows: Range<usize>) -> Result<(&Frame, usize)> {
        let Some(source) = &mut self.rows else { return Ok((&self.held, 0)) };
        if rows.start < self.first || rows.end > self.header.height {
            let (have, end) = (self.first, self.header.height);
            return Err(Error::failed(format!("rows {rows:?} are not among {have}..{end}, those that are left")));
        }
        let read = self.first + self.held.height;
        self.held.drop_rows(rows.start - self.first);
        // Windows follow each other without gaps: the rows before `start` were read.
        self.first = rows.start.min(read);
        if rows.end > read {
            source.append(&mut self.held, rows.end - read)?;
        }
        Ok((&self.held, self.first))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::media::picture::Header;

    /// All rows in windows of `side` rows with `halo` rows around them.
    fn collected(reader: &mut RowReader, side: usize, halo: usize) -> Frame {
        let (height, width) = (reader.header.height, reader.header.width);
        let mut all = Frame::zeros((height, width), 3, reader.header.is_deep()).unwrap();
        for from in (0..height).step_by(side) {
            let end = (from + side + halo).min(height);
            let (frame, first) = reader.window(from.saturating_sub(halo)..end).unwrap();
            let planes = frame.rows(from - first..end - first).unwrap();
            all.put(&planes.view(), (from, 0));
        }
        all
    }

    #[test]
    fn rows_equal_the_whole_picture() {
        let mut formats = Vec::new();
        let folders =
            ["pictures", "media"].map(|name| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name));
        for file in folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap()) {
            let path = file.unwrap().path();
            let (Ok(header), Ok(whole)) = (Header::read(&path), read(&path)) else { continue };
            if whole.frame.channels != 3 {
                assert!(RowReader::open(&path, header.by_rows).is_err(), "{path:?}");
                continue;
            }
            formats.extend(header.by_rows);
            for (side, halo) in [(1, 0), (5, 2), (100, 0)] {
                let (picture, mut reader) = RowReader::open(&path, header.by_rows).unwrap();
                let frame = collected(&mut reader, side, halo);
                assert_eq!(Picture { frame, ..picture }, whole, "{path:?} {side} {halo}");
            }
        }
        assert!([PictureFormat::Png, PictureFormat::Tiff].iter().all(|format| formats.contains(format)), "{formats:?}");
    }
}
