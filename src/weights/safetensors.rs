//! The safetensors format: 8 bytes of header length, a JSON header, the contiguous tensors.
//!
//! The `safetensors` crate is not used for reading, because its errors name no tensor, and it silently drops one of two entries with
//! the same name. tests/weights compares this reader with it.

use std::{
    collections::{BTreeMap, HashMap, btree_map},
    fmt,
};

use serde::{
    Deserialize,
    de::{self, MapAccess, Visitor},
};

use super::{Contents, Data, FileTensor, len_bytes, quoted};
use crate::{
    error::{Error, Result},
    tensor::DType,
};

/// The longest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Reads the tensors of a safetensors file.
///
/// # Errors
/// One sentence, without the file's name: a header that is too long, truncated or no JSON; a duplicate name; an unsupported element
/// type; offsets that contradict the shapes, the file's length or each other.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let (header, data_start) = header(bytes)?;
    let header: Header =
        serde_json::from_slice(header).map_err(|e| Error::failed(format!("safetensors header is invalid: {e}")))?;
    let data_len = bytes.len() - data_start;
    check_offsets(&header.0, data_len)?;
    let mut contents = Contents::default();
    for (name, entry) in header.0 {
        let dtype = dtype(&entry.dtype).ok_or_else(|| {
            Error::failed(format!("tensor {}: unsupported element type {}", quoted(&name), quoted(&entry.dtype)))
        })?;
        let (start, end) = entry.data_offsets;
        if len_bytes(dtype, &entry.shape) != Some(end - start) {
            let (shape, len) = (Shape(&entry.shape), end - start);
            let (name, dtype) = (quoted(&name), dtype.name());
            return Err(Error::failed(format!(
                "tensor {name}: shape {shape} of {dtype} does not match its {len} bytes"
            )));
        }
        let data = Data::At((data_start + start) as u64);
        contents.tensors.insert(name, FileTensor { dtype, shape: entry.shape, data });
    }
    Ok(contents)
}

/// The JSON header, and the offset of the data.
fn header(bytes: &[u8]) -> Result<(&[u8], usize)> {
    let Some((len, rest)) = bytes.split_first_chunk() else {
        return Err(Error::failed(format!(
            "safetensors file of {} bytes has no header; download it again",
            bytes.len()
        )));
    };
    let len = u64::from_le_bytes(*len);
    if len > MAX_HEADER {
        return Err(Error::failed(format!(
            "safetensors header of {len} bytes exceeds the format's limit of {MAX_HEADER}"
        )));
    }
    let header = rest.get(..len as usize).ok_or_else(|| {
        let got = rest.len();
        Error::failed(format!("truncated: the safetensors header needs {len} bytes, got {got}; download it again"))
    })?;
    Ok((header, 8 + len as usize))
}

/// Checks that the tensors cover the data without overlaps and gaps.
fn check_offsets(entries: &BTreeMap<String, Entry>, data_len: usize) -> Result<()> {
    let mut order: Vec<_> = entries.iter().map(|(name, e)| (e.data_offsets, name)).collect();
    order.sort();
    let mut at = 0;
    for ((start, end), name) in order {
        let name = quoted(name);
        if end < start {
            return Err(Error::failed(format!("tensor {name}: ends at {end}, before its start at {start}")));
        }
        if end > data_len {
            return Err(Error::failed(format!(
                "truncated: tensor {name} ends at byte {end} of the data, which has {data_len}; download it again"
            )));
        }
        if start != at {
            let what = if start < at { "overlaps the tensor before it" } else { "leaves a gap before it" };
            return Err(Error::failed(format!("tensor {name}: {what} (starts at {start}, expected {at})")));
        }
        at = end;
    }
    if at != data_len {
        return Err(Error::failed(format!("{} unused bytes after the last tensor", data_len - at)));
    }
    Ok(())
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "F64" => DType::F64,
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F8_E4M3" => DType::F8E4M3,
        "F8_E5M2" => DType::F8E5M2,
        "I64" => DType::I64,
        "I32" => DType::I32,
        "I16" => DType::I16,
        "I8" => DType::I8,
        "U8" => DType::U8,
        "BOOL" => DType::Bool,
        _ => return None,
    })
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

struct Header(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Header, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(name) = map.next_key::<String>()? {
            if name == "__metadata__" {
                map.next_value::<HashMap<String, String>>()?;
                continue;
            }
            match entries.entry(name) {
                btree_map::Entry::Vacant(slot) => {
                    slot.insert(map.next_value()?);
                }
                btree_map::Entry::Occupied(slot) => {
                    return Err(de::Error::custom(format!("duplicate tensor {}", quoted(slot.key()))));
                }
            }
        }
        Ok(Header(entries))
    }
}

/// A shape in messages, at most 8 axes.
pub(super) struct Shape<'a>(pub(super) &'a [usize]);

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<_> = self.0.iter().take(8).map(ToString::to_string).collect();
        write!(f, "[{}{}]", dims.join(", "), if self.0.len() > 8 { ", …" } else { "" })
    }
}
