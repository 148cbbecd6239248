//! The parts of the zip format (APPNOTE 6.3.10) that find uncompressed entries: central directory, zip64, local headers.

use std::collections::HashMap;

use super::quoted;
use crate::error::{Error, Result};

/// Bytes of an end-of-directory record without its comment.
const END_LEN: usize = 22;

/// The uncompressed entries of a zip file: name → bytes `start..start + len` of the file.
pub(super) struct Directory<'a> {
    bytes: &'a [u8],
    entries: HashMap<&'a str, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    flags: u16,
    method: u16,
    packed: u64,
    len: u64,
    header: u64,
}

impl<'a> Directory<'a> {
    /// Reads the central directory.
    ///
    /// # Errors
    /// A directory that is missing, not where the end record says, or has a duplicate entry.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self> {
        let (start, len, count) = locate(bytes)?;
        let mut rest = field(bytes, start, len).ok_or_else(cut_short)?;
        let mut entries = HashMap::new();
        while !rest.is_empty() {
            let (name, entry, after) = central_entry(rest)?;
            if entries.insert(name, entry).is_some() {
                return Err(Error::failed(format!("duplicate zip entry {}", quoted(name))));
            }
            rest = after;
        }
        if entries.len() as u64 != count {
            let found = entries.len();
            return Err(Error::failed(format!("zip directory should have {count} entries, got {found}")));
        }
        Ok(Self { bytes, entries })
    }

    /// The names of all entries, unordered.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().copied()
    }

    /// The bytes of an entry, (start, length); `None`: no such entry.
    ///
    /// # Errors
    /// An entry that is compressed, encrypted, or outside the file.
    pub(super) fn find(&self, name: &str) -> Result<Option<(usize, usize)>> {
        let Some(entry) = self.entries.get(name) else { return Ok(None) };
        let refuse = |why: &str| Err(Error::failed(format!("zip entry {} {why}", quoted(name))));
        if entry.flags & 1 != 0 {
            return refuse("is encrypted, which torch never writes");
        }
        if entry.method != 0 || entry.packed != entry.len {
            return refuse("is compressed, which torch never writes; save the checkpoint again with torch.save");
        }
        let start = (|| {
            let header = field(self.bytes, entry.header, 30)?;
            let name_len = u64::from(u16_at(header, 26)?);
            let local_name = field(self.bytes, entry.header + 30, name_len)?;
            (header.starts_with(b"PK\x03\x04") && local_name == name.as_bytes())
                .then_some(entry.header + 30 + name_len + u64::from(u16_at(header, 28)?))
        })();
        let Some(start) = start else { return refuse("is not where the zip directory says") };
        if field(self.bytes, start, entry.len).is_none() {
            return refuse("ends after the end of the file; download it again");
        }
        Ok(Some((start as usize, entry.len as usize)))
    }
}

/// Finds the central directory: (start, length, entries).
fn locate(bytes: &[u8]) -> Result<(u64, u64, u64)> {
    let lowest = bytes.len().saturating_sub(END_LEN + usize::from(u16::MAX));
    let end = (lowest..=bytes.len().saturating_sub(END_LEN))
        .rev()
        .find(|&at| bytes[at..].starts_with(b"PK\x05\x06"))
        .ok_or_else(cut_short)?;
    let record = &bytes[end..];
    let small =
        || Some((u64::from(u32_at(record, 16)?), u64::from(u32_at(record, 12)?), u64::from(u16_at(record, 10)?)));
    let (start, len, count) = small().ok_or_else(cut_short)?;
    if start != u64::from(u32::MAX) && len != u64::from(u32::MAX) && count != u64::from(u16::MAX) {
        return Ok((start, len, count));
    }
    // zip64: a locator of 20 bytes before the end record points to the wide one.
    let wide = || {
        let locator = bytes.get(end.checked_sub(20)?..end)?;
        let at = locator.starts_with(b"PK\x06\x07").then(|| u64_at(locator, 8))??;
        let record = field(bytes, at, 56)?;
        record.starts_with(b"PK\x06\x06").then_some(())?;
        Some((u64_at(record, 48)?, u64_at(record, 40)?, u64_at(record, 32)?))
    };
    wide().ok_or_else(cut_short)
}

/// The next entry of the central directory, and the rest.
fn central_entry(b: &[u8]) -> Result<(&str, Entry, &[u8])> {
    let parse = || {
        b.starts_with(b"PK\x01\x02").then_some(())?;
        let (name_len, extra_len) = (usize::from(u16_at(b, 28)?), usize::from(u16_at(b, 30)?));
        let name = std::str::from_utf8(b.get(46..46 + name_len)?).ok()?;
        let extra = b.get(46 + name_len..46 + name_len + extra_len)?;
        let next = 46 + name_len + extra_len + usize::from(u16_at(b, 32)?);
        let mut entry = Entry {
            flags: u16_at(b, 8)?,
            method: u16_at(b, 10)?,
            packed: u64::from(u32_at(b, 20)?),
            len: u64::from(u32_at(b, 24)?),
            header: u64::from(u32_at(b, 42)?),
        };
        widen(&mut entry, extra)?;
        Some((name, entry, b.get(next..)?))
    };
    parse().ok_or_else(|| Error::failed("zip directory is damaged; download the file again"))
}

/// Reads values that do not fit 32 bits from the zip64 extra field, which has them in this order.
fn widen(entry: &mut Entry, mut extra: &[u8]) -> Option<()> {
    let narrow = u64::from(u32::MAX);
    while extra.len() >= 4 {
        let (id, len) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let mut body = extra.get(4..4 + len)?;
        if id == 1 {
            for value in [&mut entry.len, &mut entry.packed, &mut entry.header] {
                if *value == narrow {
                    *value = u64_at(body, 0)?;
                    body = &body[8..];
                }
            }
            return Some(());
        }
        extra = &extra[4 + len..];
    }
    Some(())
}

fn cut_short() -> Error {
    Error::failed("truncated: the zip file has no directory at its end; download it again")
}

fn field(bytes: &[u8], start: u64, len: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

fn u16_at(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

fn u32_at(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*b.get(at..)?.first_chunk()?))
}

fn u64_at(b: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*b.get(at..)?.first_chunk()?))
}
