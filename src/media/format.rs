//! The one table of media formats: extensions, what is read, what is written, and the defaults of video encoding.
//!
//! The command line, output names, batch runs and the encoder all use this table, so they treat every extension the same way.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// What can be done with one kind of content in a format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// It is read.
    Read,
    /// It is read and written.
    ReadWrite,
}

/// How a still picture is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum PictureFormat {
    Png,
    Jpeg,
    WebP,
    Gif,
    Tiff,
    Bmp,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// The name in messages: `JPEG`.
    pub name: &'static str,
    /// Lower-case extensions without the dot; the first one is suggested in messages.
    pub extensions: &'static [&'static str],
    /// The codec of still pictures; `None`: the format holds none.
    pub picture: Option<PictureFormat>,
    /// Still pictures.
    pub still: Access,
    /// Videos and animations.
    pub video: Access,
    /// Whether its video is an animated picture: a loop count, no sound, no other streams.
    pub animated: bool,
    /// FFmpeg's name of the muxer; `None`: FFmpeg does not write it here.
    pub muxer: Option<&'static str>,
    /// Default video encoder, and the one for frames with transparency.
    pub encoders: (&'static str, &'static str),
    /// Shortest duration of a frame of its animations in ms: players slow down shorter ones. `None`: no limit.
    pub shortest_frame: Option<u32>,
    /// Longest duration of a frame of its animations in ms. `None`: no limit.
    pub longest_frame: Option<u32>,
    /// Whether its videos store a rotation. FFmpeg 5.1 writes it to the QuickTime family only.
    pub rotates: bool,
}

/// Default encoder of formats that are not in the table or define none.
const H264: (&str, &str) = ("h264", "h264");

/// Extension of a generated picture, and of a picture whose format cannot be written.
pub const DEFAULT_PICTURE: &str = "png";
/// Extension of a generated video.
pub const DEFAULT_VIDEO: &str = "mp4";
/// Extension of a video whose format cannot be written: Matroska holds any codec and stream.
const FALLBACK_VIDEO: &str = "mkv";

const fn picture(
    name: &'static str,
    extensions: &'static [&'static str],
    picture: PictureFormat,
    still: Access,
) -> FileFormat {
    FileFormat { picture: Some(picture), still, ..unwritten(name, extensions, Access::None) }
}

const fn video(name: &'static str, extensions: &'static [&'static str], muxer: &'static str) -> FileFormat {
    FileFormat { muxer: Some(muxer), ..unwritten(name, extensions, Access::ReadWrite) }
}

const fn quicktime(name: &'static str, extensions: &'static [&'static str], muxer: &'static str) -> FileFormat {
    FileFormat { rotates: true, ..video(name, extensions, muxer) }
}

const fn read_only(name: &'static str, extensions: &'static [&'static str]) -> FileFormat {
    unwritten(name, extensions, Access::Read)
}

const fn unwritten(name: &'static str, extensions: &'static [&'static str], video: Access) -> FileFormat {
    FileFormat {
        name,
        extensions,
        picture: None,
        still: Access::None,
        video,
        animated: false,
        muxer: None,
        encoders: H264,
        shortest_frame: None,
        longest_frame: None,
        rotates: false,
    }
}

/// Milliseconds of the longest frame of an APNG that FFmpeg reads: it counts 10 µs in 31 bits. The format has 65,535 s.
const APNG_LONGEST: u32 = 21_474_000;

/// Every format whose extension is known. FFmpeg reads and writes more: a name outside this table is left to it.
pub const FORMATS: &[FileFormat] = &[
    FileFormat {
        // A `.png` is written as an animation only where the source is one; `.apng` always is.
        video: Access::Read,
        animated: true,
        muxer: Some("apng"),
        encoders: ("apng", "apng"),
        longest_frame: Some(APNG_LONGEST),
        ..picture("PNG", &["png"], PictureFormat::Png, Access::ReadWrite)
    },
    picture("JPEG", &["jpg", "jpeg"], PictureFormat::Jpeg, Access::ReadWrite),
    FileFormat {
        video: Access::ReadWrite,
        animated: true,
        muxer: Some("webp"),
        encoders: ("libwebp_anim", "libwebp_anim"),
        shortest_frame: Some(11),
        longest_frame: Some((1 << 24) - 1),
        ..picture("WebP", &["webp"], PictureFormat::WebP, Access::ReadWrite)
    },
    FileFormat {
        video: Access::ReadWrite,
        animated: true,
        encoders: ("gif", "gif"),
        shortest_frame: Some(20),
        longest_frame: Some(655_350),
        ..picture("GIF", &["gif"], PictureFormat::Gif, Access::ReadWrite)
    },
    picture("TIFF", &["tiff", "tif"], PictureFormat::Tiff, Access::ReadWrite),
    picture("BMP", &["bmp"], PictureFormat::Bmp, Access::ReadWrite),
    FileFormat {
        still: Access::Read,
        animated: true,
        encoders: ("apng", "apng"),
        longest_frame: Some(APNG_LONGEST),
        ..video("APNG", &["apng"], "apng")
    },
    quicktime("MP4", &["mp4"], "mp4"),
    video("Matroska", &["mkv"], "matroska"),
    FileFormat { encoders: ("libvpx-vp9", "libvpx-vp9"), ..video("WebM", &["webm"], "webm") },
    FileFormat { encoders: ("h264", "prores_ks"), ..quicktime("QuickTime", &["mov"], "mov") },
    quicktime("M4V", &["m4v"], "ipod"),
    video("AVI", &["avi"], "avi"),
    video("MPEG-TS", &["ts", "mts", "m2ts"], "mpegts"),
    video("Flash Video", &["flv"], "flv"),
    read_only("Flash Video", &["f4v"]),
    read_only("MPEG", &["mpg", "mpeg", "m2v", "vob"]),
    read_only("Windows Media", &["wmv", "asf"]),
    read_only("Ogg", &["ogv"]),
    read_only("3GPP", &["3gp"]),
    read_only("YUV4MPEG2", &["y4m"]),
    read_only("MXF", &["mxf"]),
    read_only("DivX", &["divx"]),
];

impl FileFormat {
    /// The format of a file name's extension, in any case; `None`: no extension, or one that is not in the table.
    pub fn of_path(path: &Path) -> Option<&'static Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        FORMATS.iter().find(|format| format.extensions.contains(&extension.as_str()))
    }

    /// The format of FFmpeg's name of a muxer.
    pub(super) fn of_muxer(muxer: &str) -> Option<&'static Self> {
        FORMATS.iter().find(|format| format.muxer == Some(muxer))
    }

    /// Whether still pictures are written to it.
    pub fn writes_pictures(&self) -> bool {
        self.still == Access::ReadWrite
    }

    /// Whether any video is written to it.
    pub fn writes_videos(&self) -> bool {
        self.video == Access::ReadWrite
    }
}

/// Extensions to suggest for a picture: `.png, .jpg, .webp, .gif, .tiff or .bmp`.
pub fn picture_extensions() -> String {
    suggested(FORMATS.iter().filter(|format| format.writes_pictures()))
}

/// Extensions to suggest for a video, animated pictures last: `.mp4, .mkv, … or .apng`.
pub fn video_extensions() -> String {
    let (animated, videos): (Vec<_>, Vec<_>) =
        FORMATS.iter().filter(|format| format.writes_videos()).partition(|format| format.animated);
    suggested(videos.into_iter().chain(animated))
}

fn suggested(formats: impl Iterator<Item = &'static FileFormat>) -> String {
    let names: Vec<_> = formats.map(|format| format!(".{}", format.extensions[0])).collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}

/// The name of an output made from a file of this name: a format that cannot be written becomes `.png` or `.mkv`. A name outside
/// the table stays as it is.
pub fn output_name(name: &Path) -> PathBuf {
    match FileFormat::of_path(name) {
        Some(format) if format.writes_pictures() || format.writes_videos() => name.into(),
        Some(format) if format.still != Access::None => name.with_extension(DEFAULT_PICTURE),
        Some(_) => name.with_extension(FALLBACK_VIDEO),
        None => name.into(),
    }
}

impl PictureFormat {
    /// The format of a file that begins with `head`; 32 bytes are enough. `None`: not a picture that is read.
    pub fn of_content(head: &[u8]) -> Option<Self> {
        Self::of_decoder(image::guess_format(head).ok()?)
    }

    /// The format that the image crate found.
    pub(super) fn of_decoder(format: image::ImageFormat) -> Option<Self> {
        Some(match format {
            image::ImageFormat::Png => Self::Png,
            image::ImageFormat::Jpeg => Self::Jpeg,
            image::ImageFormat::WebP => Self::WebP,
            image::ImageFormat::Gif => Self::Gif,
            image::ImageFormat::Tiff => Self::Tiff,
            image::ImageFormat::Bmp => Self::Bmp,
            _ => return None,
        })
    }

    /// The format to write to a file of this name. Errors: an extension that no written picture format has.
    pub fn of_name(path: &Path) -> Result<Self> {
        let format = FileFormat::of_path(path).filter(|format| format.writes_pictures());
        format.and_then(|format| format.picture).ok_or_else(|| {
            Error::usage(format!(
                "{}: a picture cannot be written with this extension; use {}",
                path.display(),
                picture_extensions()
            ))
        })
    }

    /// The name in messages: `PNG`.
    pub fn name(self) -> &'static str {
        FORMATS.iter().find(|format| format.picture == Some(self)).map_or("picture", |format| format.name)
    }

    /// Whether its encoder has a quality setting.
    pub fn is_lossy(self) -> bool {
        matches!(self, Self::Jpeg | Self::WebP)
    }

    /// The image crate's name of the format.
    pub(super) fn decoder(self) -> image::ImageFormat {
        match self {
            Self::Png => image::ImageFormat::Png,
            Self::Jpeg => image::ImageFormat::Jpeg,
            Self::WebP => image::ImageFormat::WebP,
            Self::Gif => image::ImageFormat::Gif,
            Self::Tiff => image::ImageFormat::Tiff,
            Self::Bmp => image::ImageFormat::Bmp,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_unique_and_lower_case() {
        let all: Vec<_> = FORMATS.iter().flat_map(|format| format.extensions).collect();
        for (k, extension) in all.iter().enumerate() {
            assert!(!all[..k].contains(extension) && extension.to_ascii_lowercase() == **extension, "{extension}");
        }
    }

    #[test]
    fn output_names_keep_what_can_be_written() {
        let rows = [
            ("a.PNG", "a.PNG"),
            ("a.tif", "a.tif"),
            ("a.tiff", "a.tiff"),
            ("a.bmp", "a.bmp"),
            ("a.apng", "a.apng"),
            ("a.mov", "a.mov"),
            ("a.M2TS", "a.M2TS"),
            ("a.wmv", "a.mkv"),
            ("a", "a"),
        ];
        let wrong: Vec<_> =
            rows.iter().filter(|(name, want)| output_name(Path::new(name)) != Path::new(want)).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn suggestions_name_what_is_written() {
        assert_eq!(picture_extensions(), ".png, .jpg, .webp, .gif, .tiff or .bmp");
        assert_eq!(video_extensions(), ".mp4, .mkv, .webm, .mov, .m4v, .avi, .ts, .flv, .webp, .gif or .apng");
        for format in [PictureFormat::Png, PictureFormat::Bmp, PictureFormat::Tiff] {
            assert!(format.name().eq_ignore_ascii_case(&format!("{format:?}")));
        }
    }
}
