//! EXIF blocks: the parameters in the user comment, the orientation, and the tags of a TIFF.

use super::{
    PARAMETERS, Picture,
    ifd::{self, Block, EXIF, Entry, GPS},
};

const ORIENTATION: u16 = 0x112;
const USER_COMMENT: u16 = 0x9286;
/// Tags of a TIFF's directory that describe the picture and not its storage: description, make, model, orientation, software,
/// time, artist, host, rating, copyright, and those of Windows.
const KEPT: &[u16] = &[
    0x10e,
    0x10f,
    0x110,
    ORIENTATION,
    0x131,
    0x132,
    0x13b,
    0x13c,
    0x4746,
    0x4749,
    0x8298,
    0x9c9b,
    0x9c9c,
    0x9c9d,
    0x9c9e,
    0x9c9f,
];
/// Offset of the interoperability directory, which is not kept.
const INTEROPERABILITY: u16 = 0xa005;

/// Whether a tag of a TIFF's directory describes the picture.
pub(super) fn is_kept(tag: u16) -> bool {
    KEPT.contains(&tag)
}

/// The directories of an EXIF block that are stored in a TIFF page: the first, EXIF and GPS.
pub(super) struct Tags {
    pub main: Vec<Entry>,
    pub children: Vec<(u16, Vec<Entry>)>,
}

impl Tags {
    /// The kept tags of a directory of a block.
    pub(super) fn of(block: &Block<'_>, directory: &[Entry]) -> Self {
        let main = directory.iter().filter(|entry| is_kept(entry.tag)).cloned().collect();
        let child = |tag| {
            let mut entries = block.child(directory, tag);
            entries.retain(|entry| entry.tag != INTEROPERABILITY);
            (tag, entries)
        };
        let children = [EXIF, GPS].map(child).into_iter().filter(|(_, entries)| !entries.is_empty()).collect();
        Self { main, children }
    }

    /// The kept tags of an EXIF block; none if it is invalid.
    pub(super) fn of_exif(exif: &[u8]) -> Self {
        let read =
            |block: Block<'_>| block.first().and_then(|at| block.directory(at)).map(|(d, _)| Self::of(&block, &d));
        Block::open(exif).and_then(read).unwrap_or(Self { main: Vec::new(), children: Vec::new() })
    }

    /// The tags as an EXIF block. `None`: no tags.
    pub(super) fn into_exif(self) -> Option<Vec<u8>> {
        if self.main.is_empty() && self.children.is_empty() {
            return None;
        }
        ifd::edited(None, self.main, self.children)
    }
}

/// The EXIF block of a picture with its parameters as the user comment.
pub(super) fn with_parameters(picture: &Picture) -> Option<Vec<u8>> {
    let exif = picture.exif.as_deref();
    let parameters = picture.text.iter().find(|(keyword, _)| keyword == PARAMETERS);
    let Some((_, text)) = parameters.filter(|(_, text)| exif.and_then(comment).as_ref() != Some(text)) else {
        return picture.exif.clone();
    };
    let value = match text.is_ascii() {
        true => [b"ASCII\0\0\0", text.as_bytes()].concat(),
        // Big-endian, which the readers of this comment expect in blocks of both byte orders.
        false => b"UNICODE\0".iter().copied().chain(text.encode_utf16().flat_map(u16::to_be_bytes)).collect(),
    };
    ifd::edited(exif, Vec::new(), vec![(EXIF, vec![Entry::undefined(USER_COMMENT, value)])]).or(picture.exif.clone())
}

/// The parameters in the user comment of an EXIF block. `None`: no comment, or one that has no sampling steps.
pub(super) fn parameters(exif: &[u8]) -> Option<String> {
    comment(exif).filter(|text| text.contains("Steps: "))
}

/// The user comment.
fn comment(exif: &[u8]) -> Option<String> {
    let block = Block::open(exif)?;
    let (main, _) = block.directory(block.first()?)?;
    let child = block.child(&main, EXIF);
    let (code, value) = ifd::find(&child, USER_COMMENT)?.data.split_at_checked(8)?;
    let text = match code {
        b"UNICODE\0" => {
            let (pairs, _) = value.as_chunks::<2>();
            let read =
                |number: fn([u8; 2]) -> u16| String::from_utf16(&pairs.iter().map(|p| number(*p)).collect::<Vec<_>>());
            let little = pairs.iter().filter(|p| p[1] == 0).count() > pairs.iter().filter(|p| p[0] == 0).count();
            read(if little { u16::from_le_bytes } else { u16::from_be_bytes }).ok()?
        }
        _ => String::from_utf8(value.to_vec()).ok()?,
    };
    Some(text.trim_end_matches('\0').into())
}

impl Picture {
    /// Sets the EXIF orientation to 1, for pixels that are now stored as they are shown.
    pub fn set_upright(&mut self) {
        if self.orientation() != 1 {
            let upright = |exif| ifd::edited(Some(exif), vec![Entry::shorts(ORIENTATION, &[1])], Vec::new());
            self.exif = self.exif.as_deref().and_then(upright);
        }
    }
}

/// Strips the prefix `Exif\0\0`, which JPEG and some WebP writers add, from an EXIF block.
pub(super) fn without_prefix(exif: &[u8]) -> &[u8] {
    exif.strip_prefix(b"Exif\0\0").unwrap_or(exif)
}
