//! The format of torch < 1.6: five pickles, then each storage as its number of elements and its data.

use std::collections::HashMap;

use super::{
    Contents,
    object::{Id, Node, Objects, Storage, malformed},
    pickle::Machine,
    quoted,
    torch::Collector,
};
use crate::error::{Error, Result};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// Reads the tensors of a torch legacy file.
///
/// # Errors
/// One sentence, without the file's name: a pickle that is not torch's or needs more than tensors, big-endian data, a truncated file, a
/// tensor that exceeds its storage.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let mut pickle = Machine::new(bytes, 0);
    let magic = pickle.run()?;
    if !matches!(pickle.objects().node(magic), Node::Big(b) if *b == MAGIC) {
        return Err(Error::failed("is a pickle that torch.save did not write; save the state_dict with torch.save"));
    }
    let protocol = pickle.run()?;
    if !matches!(pickle.objects().node(protocol), Node::Int(PROTOCOL)) {
        return Err(Error::failed("torch legacy file of an unknown protocol; supported: 1001"));
    }
    let system = pickle.run()?;
    if !is_little_endian(pickle.objects(), system) {
        return Err(Error::failed("torch legacy file is not marked as little-endian, the only supported byte order"));
    }
    let top = pickle.run()?;
    let keys = pickle.run()?;
    let storages = storages(pickle.objects(), keys, pickle.position(), bytes)?;
    let locate = |storage: &Storage<'_>| {
        let found = storages.get(storage.key).copied();
        found.ok_or_else(|| Error::failed(format!("its storage {} is missing in the file", quoted(storage.key))))
    };
    Collector { objects: pickle.objects(), bytes, locate }.collect(top)
}

fn is_little_endian(objects: &Objects<'_>, system: Id) -> bool {
    let Node::Dict(items) = objects.node(system) else { return false };
    let said = |(k, v): &(Id, Id)| {
        matches!(objects.node(*k), Node::Text("little_endian")) && matches!(objects.node(*v), Node::Bool(true))
    };
    items.iter().any(said)
}

/// The data of each storage: key → (start, length). The file has them in the order of `keys`, from byte `start` on.
fn storages<'a>(
    objects: &Objects<'a>,
    keys: Id,
    start: usize,
    bytes: &[u8],
) -> Result<HashMap<&'a str, (usize, usize)>> {
    let Node::List(keys) = objects.node(keys) else { return Err(malformed("has no list of storages")) };
    let units = objects.storages().map(|s| (s.key, s.unit())).collect::<HashMap<_, _>>();
    let mut at = start;
    let mut found = HashMap::new();
    for &key in keys {
        let Node::Text(key) = *objects.node(key) else { return Err(malformed("has a storage key that is not text")) };
        let name = quoted(key);
        let unit = units.get(key).copied();
        let unit = unit.ok_or_else(|| Error::failed(format!("storage {name} is listed, but unused")))?;
        let rest = &bytes[at..];
        let len = rest.first_chunk().map(|&count| i64::from_le_bytes(count));
        let len = len.and_then(|n| u64::try_from(n).ok()?.checked_mul(unit));
        let len = len.and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= rest.len() - 8);
        let Some(len) = len else {
            return Err(Error::failed(format!("truncated within storage {name}; download it again")));
        };
        if found.insert(key, (at + 8, len)).is_some() {
            return Err(Error::failed(format!("storage {name} is listed twice")));
        }
        at += 8 + len;
    }
    match bytes.len() - at {
        0 => Ok(found),
        left => Err(Error::failed(format!("{left} unused bytes after the last storage"))),
    }
}
