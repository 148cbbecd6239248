//! Numbered pictures as the frames of a video.

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    media::picture,
    pipeline::retime::SourceFrame,
    stage::interpolate::Planes,
    tensor::{Frame, collected, planes_of},
};

/// Properties of the first of numbered pictures, which all others must share.
pub(super) struct FirstPicture<'a> {
    first: &'a Path,
    /// (height, width)
    pub size: (usize, usize),
    /// Whether it has 16 bits per sample.
    pub deep: bool,
    /// Whether it has transparency.
    pub alpha: bool,
}

impl<'a> FirstPicture<'a> {
    /// Reads the first picture.
    pub(super) fn of(first: &'a Path) -> Result<Self> {
        let frame = read_page(first)?;
        Ok(Self { first, size: (frame.height, frame.width), deep: frame.is_deep(), alpha: frame.channels == 4 })
    }

    /// The frames of `files` from `number`.
    pub(super) fn frames(
        &self,
        files: &'a [PathBuf],
        number: usize,
    ) -> impl Iterator<Item = Result<SourceFrame>> + Send {
        let take = move |(pts, file): (usize, &PathBuf)| {
            let pts = pts as i64;
            Ok(SourceFrame { frame: self.read(file)?, pts, duration: 1, stamp: pts })
        };
        files.iter().enumerate().skip(number).map(take)
    }

    /// The planes of a picture, with the channels of the first.
    fn read(&self, file: &Path) -> Result<Planes> {
        let frame = read_page(file)?;
        let (name, first, (height, width)) = (file.display(), self.first.display(), self.size);
        if (frame.height, frame.width) != (height, width) {
            let (w, h) = (frame.width, frame.height);
            return Err(Error::failed(format!(
                "{name}: expected {width}x{height} pixels as in {first}, got {w}x{h}; all frames of a video need one size"
            )));
        }
        match (self.alpha, frame.channels) {
            (false, 4) => Err(Error::failed(format!(
                "{name} has transparency and {first} has none; all frames of a video need the same channels"
            ))),
            (true, 3) => {
                let colours = frame.planes()?;
                let opaque = std::iter::repeat_n(1.0, height * width);
                let samples = collected(4 * height * width, colours.iter().copied().chain(opaque))?;
                planes_of((4, height, width), samples)
            }
            _ => frame.planes(),
        }
    }
}

/// The pixels of a picture of one page.
fn read_page(file: &Path) -> Result<Frame> {
    let picture = picture::read(file)?;
    match picture.pages.len() {
        0 => Ok(picture.frame),
        more => {
            let (name, pages) = (file.display(), more + 1);
            Err(Error::failed(format!("{name} has {pages} pages; a frame of a video has one")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        media::{PictureOptions, picture::Picture},
        tensor::Samples,
    };

    /// Writes a picture of a size and depth, of one value.
    fn write(path: &Path, (width, height): (usize, usize), channels: usize, deep: bool, value: u8) {
        let count = width * height * channels;
        let samples = match deep {
            true => Samples::U16(vec![u16::from(value) * 257; count]),
            false => Samples::U8(vec![value; count]),
        };
        let picture = Picture::from(Frame { width, height, channels, samples });
        picture::write(path, &picture, &PictureOptions::default()).unwrap();
    }

    /// Pictures: side, channels and depth, and a value; then the frames: channels and value, or what the error says. `3-40` is an RGB
    /// picture of 40/255.
    #[test]
    fn numbered_pictures_share_the_form_of_the_first() {
        let rows: &[(&str, &str)] = &[
            ("3-40 3-80 3-120", "3-40 3-80 3-120"),
            ("4-40 4-80", "4-40 4-80"),
            // Where the first has transparency, the others are opaque.
            ("4-40 3-80", "4-40 4-80+"),
            ("3-40 4-80", "3-40 1.png has transparency and "),
            ("3-40 wide-80 3-120", "3-40 1.png: expected 8x8 pixels as in "),
            ("3-40 tall-80", "3-40 1.png: expected 8x8 pixels as in "),
            ("deep-40 3-80", "3-40 3-80"),
            ("3-40 deep-80", "3-40 3-80"),
            ("3-40 gone 3-80", "3-40 reading 1.png: No such file"),
            ("3-40 text 3-80", "3-40 1.png"),
            ("gone 3-40", "reading 0.png: No such file"),
            ("text 3-40", "0.png"),
        ];
        let mut wrong = Vec::new();
        for (given, want) in rows {
            let folder = tempfile::tempdir().unwrap();
            let place = |(k, word): (usize, &str)| {
                let path = folder.path().join(format!("{k}.png"));
                let value = word.split_once('-').map_or(0, |(_, value)| value.parse().unwrap());
                match word.split('-').next().unwrap() {
                    "3" => write(&path, (8, 8), 3, false, value),
                    "4" => write(&path, (8, 8), 4, false, value),
                    "deep" => write(&path, (8, 8), 3, true, value),
                    "wide" => write(&path, (9, 8), 3, false, value),
                    "tall" => write(&path, (8, 9), 3, false, value),
                    "text" => std::fs::write(&path, "no picture").unwrap(),
                    _ => {}
                }
                path
            };
            let files: Vec<PathBuf> = given.split(' ').enumerate().map(place).collect();
            let found = match FirstPicture::of(&files[0]) {
                Err(e) => vec![e.to_string()],
                Ok(first) => shown(first.frames(&files, 0)),
            };
            let found = found.join(" ").replace(&format!("{}/", folder.path().display()), "");
            // A message may say more.
            let same = if want.contains(".png") { found.starts_with(want) } else { found == *want };
            if !same {
                wrong.push(format!("{given}: wanted {want:?}, got {found:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Channels and value of each frame, `+` if only the fourth plane is 1; the first error ends it. Positions must follow each other.
    fn shown(frames: impl Iterator<Item = Result<SourceFrame>>) -> Vec<String> {
        let mut all = Vec::new();
        for (k, frame) in frames.enumerate() {
            match frame {
                Ok(SourceFrame { frame, pts, stamp, duration }) => {
                    assert_eq!((pts, stamp, duration), (k as i64, k as i64, 1));
                    let (channels, value) = (frame.dim().0, (frame[[0, 3, 3]] * 255.0).round());
                    let opaque = channels == 4 && frame[[3, 3, 3]] == 1.0;
                    all.push(format!("{channels}-{value}{}", if opaque { "+" } else { "" }));
                }
                Err(e) => {
                    all.push(e.to_string());
                    break;
                }
            }
        }
        all
    }
}
