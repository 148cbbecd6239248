//! Image file directories: the tags of TIFF files and EXIF blocks (TIFF 6.0 section 2, BigTIFF, EXIF 2.32 section 4.6).

use std::{cell::Cell, collections::HashSet};

/// Tag of the offset of the EXIF directory.
pub(super) const EXIF: u16 = 0x8769;
/// Tag of the offset of the GPS directory.
pub(super) const GPS: u16 = 0x8825;
/// The most entries that are read of a directory, and the most directories of a file.
const MOST: u64 = 65_535;
/// Bytes of values that are read in addition to the length of the file. Directories may share values.
const SHARED: usize = 16 << 20;

/// A tag and its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub tag: u16,
    /// Type of the values: 1 bytes, 2 ASCII, 3 16 bits, 4 32 bits, 5 rational, 7 undefined, …
    kind: u16,
    /// The values, little-endian.
    pub data: Vec<u8>,
}

impl Entry {
    /// 16-bit values.
    pub(super) fn shorts(tag: u16, values: &[u16]) -> Self {
        Self { tag, kind: 3, data: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    /// 32-bit values.
    pub(super) fn longs(tag: u16, values: &[u32]) -> Self {
        Self { tag, kind: 4, data: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    /// A ratio.
    pub(super) fn rational(tag: u16, numerator: u32, denominator: u32) -> Self {
        Self { kind: 5, ..Self::longs(tag, &[numerator, denominator]) }
    }

    /// Bytes without a type.
    pub(super) fn undefined(tag: u16, data: Vec<u8>) -> Self {
        Self { tag, kind: 7, data }
    }

    /// The first value, if it is an unsigned integer.
    pub(super) fn number(&self) -> Option<u64> {
        matches!(self.kind, 1 | 3 | 4 | 13 | 16 | 18).then(|| little_endian(self.data.get(..width(self.kind)?)?))?
    }

    /// The first value, if it is a ratio.
    pub(super) fn ratio(&self) -> Option<f64> {
        let (up, down) = (little_endian(self.data.get(..4)?)?, little_endian(self.data.get(4..8)?)?);
        (self.kind == 5 && down > 0).then(|| up as f64 / down as f64)
    }
}

/// The entry with a tag.
pub(super) fn find(entries: &[Entry], tag: u16) -> Option<&Entry> {
    entries.iter().find(|entry| entry.tag == tag)
}

/// The first value of a tag, if it is an unsigned integer.
pub(super) fn number(entries: &[Entry], tag: u16) -> Option<u64> {
    find(entries, tag)?.number()
}

/// Bytes of a value of a type.
fn width(kind: u16) -> Option<usize> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}

/// Reverses the bytes of every value. A ratio has two values of four bytes.
fn swap(kind: u16, data: &mut [u8]) {
    let part = if matches!(kind, 5 | 10) { 4 } else { width(kind).unwrap_or(1) };
    data.chunks_exact_mut(part).for_each(<[u8]>::reverse);
}

fn little_endian(bytes: &[u8]) -> Option<u64> {
    (bytes.len() <= 8).then(|| bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b)))
}

/// A TIFF file or an EXIF block, which has the same structure.
#[derive(Debug, Clone)]
pub(super) struct Block<'a> {
    bytes: &'a [u8],
    little: bool,
    /// Whether offsets and counts have 64 bits (BigTIFF).
    pub big: bool,
    /// Bytes of values that may still be read. Without a limit, the entries of a small file could all have the whole file as
    /// their value.
    left: Cell<usize>,
}

impl<'a> Block<'a> {
    /// Reads the header. `None`: not a TIFF.
    pub(super) fn open(bytes: &'a [u8]) -> Option<Self> {
        let little = match bytes.get(..2)? {
            b"II" => true,
            b"MM" => false,
            _ => return None,
        };
        let block = Self { bytes, little, big: false, left: Cell::new(bytes.len().saturating_add(SHARED)) };
        match block.at(2, 2)? {
            42 => Some(block),
            43 => Some(Self { big: true, ..block }),
            _ => None,
        }
    }

    /// A number of `width` bytes at an offset.
    fn at(&self, offset: u64, width: usize) -> Option<u64> {
        let start = usize::try_from(offset).ok()?;
        let mut bytes = self.bytes.get(start..start.checked_add(width)?)?.to_vec();
        if !self.little {
            bytes.reverse();
        }
        little_endian(&bytes)
    }

    /// Offset of the first directory.
    pub(super) fn first(&self) -> Option<u64> {
        if self.big { self.at(8, 8) } else { self.at(4, 4) }
    }

    /// The header with another first directory.
    pub(super) fn header(&self, first: u64) -> Vec<u8> {
        let length = if self.big { 16 } else { 8 };
        let mut header = self.bytes[..length.min(self.bytes.len())].to_vec();
        let mut offset = first.to_le_bytes()[..length / 2].to_vec();
        if !self.little {
            offset.reverse();
        }
        header.truncate(length / 2);
        header.extend(offset);
        header
    }

    /// The entries of the directory at an offset, and the offset of the next one; 0: none. Entries with values outside of the
    /// file are left out.
    pub(super) fn directory(&self, offset: u64) -> Option<(Vec<Entry>, u64)> {
        self.selected(offset, &|_| true)
    }

    /// As [`Block::directory`], for some tags.
    fn selected(&self, offset: u64, wanted: &dyn Fn(u16) -> bool) -> Option<(Vec<Entry>, u64)> {
        let (head, size, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let count = self.at(offset, head)?;
        let start = offset.checked_add(head as u64)?;
        let next = self.at(start.checked_add(count.checked_mul(size)?)?, word).unwrap_or(0);
        let entries = (0..count.min(MOST)).filter_map(|k| self.entry(start + k * size, word, wanted)).collect();
        Some((entries, next))
    }

    fn entry(&self, at: u64, word: usize, wanted: &dyn Fn(u16) -> bool) -> Option<Entry> {
        let (tag, kind, count) = (self.at(at, 2)? as u16, self.at(at + 2, 2)? as u16, self.at(at + 4, word)?);
        let length = usize::try_from(count).ok()?.checked_mul(width(kind)?).filter(|_| wanted(tag))?;
        let inline = at + 4 + word as u64;
        let start = usize::try_from(if length <= word { inline } else { self.at(inline, word)? }).ok()?;
        let value = self.bytes.get(start..start.checked_add(length)?)?;
        self.left.set(self.left.get().checked_sub(length)?);
        let mut data = value.to_vec();
        if !self.little {
            swap(kind, &mut data);
        }
        Some(Entry { tag, kind, data })
    }

    /// Whether the values of some tags of a directory are in the file.
    pub(super) fn has_values(&self, offset: u64, tags: &[u16]) -> bool {
        let (head, size, word) = if self.big { (8, 20, 8) } else { (2, 12, 4) };
        let inside = |at: u64| {
            let (kind, count) = (self.at(at + 2, 2)? as u16, self.at(at + 4, word)?);
            let length = usize::try_from(count).ok()?.checked_mul(width(kind)?)?;
            let start = if length <= word { 0 } else { usize::try_from(self.at(at + 4 + word as u64, word)?).ok()? };
            self.bytes.get(start..start.checked_add(length)?).map(|_| ())
        };
        let is_tag = |at: &u64| self.at(*at, 2).is_some_and(|tag| tags.contains(&(tag as u16)));
        let count = self.at(offset, head).unwrap_or(0).min(MOST);
        let places = (0..count).map_while(|k| offset.checked_add(head as u64)?.checked_add(k * size));
        places.filter(is_tag).all(|at| inside(at).is_some())
    }

    /// The offset of every directory of the chain, and its entries with some tags.
    pub(super) fn directories(&self, wanted: &dyn Fn(u16) -> bool) -> Vec<(u64, Vec<Entry>)> {
        let (mut found, mut seen, mut next) = (Vec::new(), HashSet::new(), self.first().unwrap_or(0));
        while next != 0 && (found.len() as u64) < MOST && seen.insert(next) {
            let Some((entries, after)) = self.selected(next, wanted) else { break };
            found.push((next, entries));
            next = after;
        }
        found
    }

    /// The entries of the directory that a tag points to.
    pub(super) fn child(&self, entries: &[Entry], tag: u16) -> Vec<Entry> {
        number(entries, tag).and_then(|at| self.directory(at)).map(|(child, _)| child).unwrap_or_default()
    }
}

/// Appends a directory and its values. Returns its offset, and the place of the offset of the next directory. `None`: beyond the
/// 4 GiB of 32-bit offsets.
pub(super) fn append(out: &mut Vec<u8>, entries: &[Entry], next: u32, little: bool) -> Option<(u32, usize)> {
    append_behind(0, out, entries, (next, little))
}

/// As [`append`], to what follows `base` bytes of a file.
pub(super) fn append_behind(
    base: usize,
    out: &mut Vec<u8>,
    entries: &[Entry],
    (next, little): (u32, bool),
) -> Option<(u32, usize)> {
    let even = |out: &mut Vec<u8>| out.resize((base + out.len()).next_multiple_of(2) - base, 0);
    let ordered = |bytes: &[u8]| if little { bytes.to_vec() } else { bytes.iter().rev().copied().collect() };
    let mut entries = entries.to_vec();
    entries.sort_by_key(|entry| entry.tag);
    let mut rows = Vec::new();
    for Entry { tag, kind, mut data } in entries {
        let count = (data.len() / width(kind).unwrap_or(1)) as u32;
        if !little {
            swap(kind, &mut data);
        }
        if data.len() > 4 {
            even(out);
            let at = u32::try_from(base + out.len()).ok()?;
            out.extend(data);
            data = ordered(&at.to_le_bytes());
        }
        data.resize(4, 0);
        rows.extend([ordered(&tag.to_le_bytes()), ordered(&kind.to_le_bytes()), ordered(&count.to_le_bytes()), data]);
    }
    even(out);
    let at = u32::try_from(base + out.len()).ok()?;
    out.extend(ordered(&((rows.len() / 4) as u16).to_le_bytes()));
    out.extend(rows.concat());
    let link = out.len();
    out.extend(ordered(&next.to_le_bytes()));
    u32::try_from(base + out.len()).ok().map(|_| (at, link))
}

/// An EXIF block with changed entries in its first directory and in the directories that tags of it point to. The old bytes stay
/// where they are, so that offsets in them, such as those of maker notes, stay valid. A missing or invalid block is replaced.
pub(super) fn edited(block: Option<&[u8]>, main: Vec<Entry>, children: Vec<(u16, Vec<Entry>)>) -> Option<Vec<u8>> {
    let valid = block.and_then(Block::open).filter(|b| !b.big);
    let old = valid.as_ref().and_then(|b| b.directory(b.first()?));
    let mut out = match (&valid, &old) {
        (Some(block), Some(_)) => block.bytes.to_vec(),
        _ => b"MM\0*\0\0\0\0".to_vec(),
    };
    let little = out.starts_with(b"II");
    let (mut entries, next) = old.unwrap_or_default();
    replace(&mut entries, main);
    for (tag, changed) in children.into_iter().filter(|(_, changed)| !changed.is_empty()) {
        let mut child = valid.as_ref().map(|b| b.child(&entries, tag)).unwrap_or_default();
        replace(&mut child, changed);
        let (at, _) = append(&mut out, &child, 0, little)?;
        replace(&mut entries, vec![Entry::longs(tag, &[at])]);
    }
    let (at, _) = append(&mut out, &entries, u32::try_from(next).ok()?, little)?;
    out[4..8].copy_from_slice(&if little { at.to_le_bytes() } else { at.to_be_bytes() });
    Some(out)
}

fn replace(entries: &mut Vec<Entry>, with: Vec<Entry>) {
    entries.retain(|entry| find(&with, entry.tag).is_none());
    entries.extend(with);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Rows: byte order. Values of all widths survive, and an edit leaves the other entries and the old bytes.
    #[test]
    fn directories_are_read_as_they_were_written() {
        for order in [b"II", b"MM"] {
            let little = order == b"II";
            let mut block = order.to_vec();
            block.extend(if little { [42, 0, 0, 0, 0, 0] } else { [0, 42, 0, 0, 0, 0] });
            let entries = vec![
                Entry { tag: 0x10f, kind: 2, data: b"Crescendo\0".to_vec() },
                Entry::shorts(0x112, &[6]),
                Entry::rational(0x11a, 300, 1),
                Entry::longs(0x201, &[1, 2, 3]),
            ];
            let (at, _) = append(&mut block, &entries, 0, little).unwrap();
            block[4..8].copy_from_slice(&if little { at.to_le_bytes() } else { at.to_be_bytes() });
            let read = Block::open(&block).unwrap().directories(&|_| true);
            assert_eq!(read, [(u64::from(at), entries.clone())]);
            assert_eq!((number(&entries, 0x112), find(&entries, 0x11a).unwrap().ratio()), (Some(6), Some(300.0)));

            let comment = Entry::undefined(0x9286, b"ASCII\0\0\0hello".to_vec());
            let edit =
                edited(Some(&block), vec![Entry::shorts(0x112, &[1])], vec![(EXIF, vec![comment.clone()])]).unwrap();
            assert_eq!(edit[8..block.len()], block[8..]);
            let edit = Block::open(&edit).unwrap();
            let (main, _) = edit.directory(edit.first().unwrap()).unwrap();
            assert_eq!((number(&main, 0x112), find(&main, 0x10f)), (Some(1), Some(&entries[0])));
            assert_eq!(edit.child(&main, EXIF), [comment]);
        }
    }

    #[test]
    fn damaged_blocks_are_refused_or_cut() {
        let loops = b"II*\0\x08\0\0\0\0\0\x08\0\0\0";
        assert_eq!(Block::open(loops).unwrap().directories(&|_| true).len(), 1);
        let outside = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\xff\xff\xff\xff\xff\xff\xff\x7f\0\0\0\0";
        assert_eq!(Block::open(outside).unwrap().directories(&|_| true), [(8, vec![])]);
        for bytes in [&b""[..], b"II", b"II*", b"MM*\0\0\0\0\0", b"PK\x03\x04"] {
            assert!(Block::open(bytes).is_none_or(|b| b.directories(&|_| true).is_empty()), "{bytes:?}");
        }
    }

    /// 10,000 directories, each with 10 values that are the whole file of 1 MB, would take 100 GB.
    #[test]
    fn values_that_overlap_take_little_memory() {
        let mut file = b"II*\0\x08\0\0\0".to_vec();
        let value = Entry::undefined(0x10f, vec![0; 1_000_000]);
        for _ in 0..10_000 {
            let at = file.len() as u32;
            let mut directory = 10_u16.to_le_bytes().to_vec();
            for _ in 0..10 {
                directory.extend(
                    [&value.tag.to_le_bytes()[..], &7_u16.to_le_bytes(), &1_000_000_u32.to_le_bytes(), &[0; 4]]
                        .concat(),
                );
            }
            directory.extend((at + 126).to_le_bytes());
            file.extend(directory);
        }
        let found = Block::open(&file).unwrap().directories(&|tag| tag == value.tag);
        let bytes: usize = found.iter().flat_map(|(_, entries)| entries).map(|entry| entry.data.len()).sum();
        assert!(found.len() == 10_000 && bytes <= file.len() + SHARED, "{} directories, {bytes} bytes", found.len());
        assert!(Block::open(&file).unwrap().directories(&|_| false).iter().all(|(_, entries)| entries.is_empty()));
    }
}
