//! Pictures, their metadata, and the headers of animated pictures.

use std::io::{BufReader, Cursor};

use crate::{
    media::{
        animated, apng,
        format::PictureFormat,
        picture::{Picture, PictureOptions, decode_within, encode},
        rational::Rational,
        riff, webp_header,
    },
    tensor::{Frame, Samples},
};

/// All formats; the first four store EXIF.
const FORMATS: [PictureFormat; 6] = [
    PictureFormat::Png,
    PictureFormat::Jpeg,
    PictureFormat::Tiff,
    PictureFormat::WebP,
    PictureFormat::Gif,
    PictureFormat::Bmp,
];
/// Bytes of decoded pixels: larger pictures are refused as the program refuses those of 4 GiB.
const LIMIT: u64 = 4 << 20;

/// A picture file. What is decoded can be encoded again, without loss as PNG and TIFF.
pub fn picture(bytes: &[u8]) {
    let Ok(picture) = decode_within(bytes, LIMIT) else { return };
    let frame = &picture.frame;
    let samples = match &frame.samples {
        Samples::U8(s) => s.len(),
        Samples::U16(s) => s.len(),
    };
    assert_eq!(samples, frame.width * frame.height * frame.channels);
    assert!((1..=8).contains(&picture.orientation()));
    if samples <= 1 << 14 {
        encode_in(&FORMATS, &picture);
    }
}

/// An EXIF block, on a picture of one pixel.
pub fn exif(bytes: &[u8]) {
    let frame = Frame { width: 1, height: 1, channels: 3, samples: Samples::U8(vec![1, 2, 3]) };
    let mut picture = Picture { exif: Some(bytes.to_vec()), ..frame.into() };
    picture.text.push(("parameters".into(), "a fox 🦊\nSteps: 1".into()));
    encode_in(&FORMATS[..4], &picture);
    picture.text.clear();
    picture.set_upright();
    assert_eq!(picture.orientation(), 1);
    encode_in(&FORMATS[..3], &picture);
}

fn encode_in(formats: &[PictureFormat], picture: &Picture) {
    let options = PictureOptions { lossless: true, ..PictureOptions::default() };
    for &format in formats {
        // Pages, transparency, texts and sizes that a format does not store are errors.
        let Ok(bytes) = encode(picture, format, &options) else { continue };
        let again = decode_within(&bytes, 4 * LIMIT);
        let again = again.unwrap_or_else(|e| panic!("{format:?} does not decode: {e}"));
        let (found, wanted) = (&again.frame, &picture.frame);
        assert_eq!((found.width, found.height), (wanted.width, wanted.height), "{format:?}");
        if matches!(format, PictureFormat::Png | PictureFormat::Tiff) {
            assert!(found.samples == wanted.samples, "{format:?} changes samples");
        }
    }
}

/// The header of an animated picture: WebP, APNG, GIF.
pub fn animation(bytes: &[u8]) {
    if let Some(header) = webp_header::Header::of(bytes) {
        let (rate, _) = header.rate();
        assert!(rate.is_known() && header.total() > 0, "{header:?}");
    }
    let mut end = 0;
    for chunk in riff::chunks(bytes) {
        assert!(chunk.at > end && chunk.data.len() <= bytes.len());
        end = chunk.at;
    }
    let reader = || BufReader::new(Cursor::new(bytes));
    assert!(apng::rate_of(reader()).is_none_or(Rational::is_known));
    for format in FORMATS {
        let _ = animated::is_animated(format, Cursor::new(bytes));
    }
}
