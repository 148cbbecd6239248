//! The container of torch < 1.6: five pickles, then every storage as an element count and its data.

use std::collections::HashMap;

use super::{
    Contents,
    pickle::{Id, Machine, Node, malformed},
    quoted,
    torch::{Collector, Storage},
};
use crate::error::{Error, Result};

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;

/// The tensors of a torch legacy file.
///
/// # Errors
/// One sentence, without the file's name: a pickle that is not torch's or wants more than tensors, big-endian data, a
/// file cut short, or a tensor outside its storage.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let mut pickle = Machine::new(bytes, 0);
    let magic = pickle.run()?;
    if !matches!(pickle.node(magic), Node::Big(b) if *b == MAGIC) {
        return Err(Error::failed("is a pickle that torch.save did not write; save the state_dict with torch.save"));
    }
    let protocol = pickle.run()?;
    if !matches!(pickle.node(protocol), Node::Int(PROTOCOL)) {
        return Err(Error::failed("torch legacy file of an unknown protocol; 1001 is read"));
    }
    let system = pickle.run()?;
    if !is_little_endian(&pickle, system) {
        return Err(Error::failed("torch legacy file does not say that it is little-endian; only that is read"));
    }
    let top = pickle.run()?;
    let keys = pickle.run()?;
    let storages = storages(&pickle, keys, bytes)?;
    let locate = |storage: &Storage<'_>| {
        let found = storages.get(storage.key).copied();
        found.ok_or_else(|| Error::failed(format!("its storage {} is not in the file", quoted(storage.key))))
    };
    Collector { pickle: &pickle, bytes, locate }.collect(top)
}

fn is_little_endian(pickle: &Machine<'_>, system: Id) -> bool {
    let Node::Dict(items) = pickle.node(system) else { return false };
    let said = |(k, v): &(Id, Id)| {
        matches!(pickle.node(*k), Node::Text("little_endian")) && matches!(pickle.node(*v), Node::Bool(true))
    };
    items.iter().any(said)
}

/// Where every storage's data lies, in the order of the key list: key → (start, length).
fn storages<'a>(pickle: &Machine<'a>, keys: Id, bytes: &[u8]) -> Result<HashMap<&'a str, (usize, usize)>> {
    let Node::List(keys) = pickle.node(keys) else { return Err(malformed("has no list of storages")) };
    let units = pickle.storages().map(|s| (s.key, s.unit())).collect::<HashMap<_, _>>();
    let mut at = pickle.position();
    let mut found = HashMap::new();
    for &key in keys {
        let Node::Text(key) = *pickle.node(key) else { return Err(malformed("has a storage key that is not text")) };
        let name = quoted(key);
        let unit = units.get(key).copied();
        let unit = unit.ok_or_else(|| Error::failed(format!("storage {name} is listed, but no tensor uses it")))?;
        let rest = &bytes[at..];
        let len = rest.first_chunk().map(|&count| i64::from_le_bytes(count));
        let len = len.and_then(|n| u64::try_from(n).ok()?.checked_mul(unit));
        let len = len.and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= rest.len() - 8);
        let Some(len) = len else {
            return Err(Error::failed(format!("cut short within storage {name}; download it again")));
        };
        if found.insert(key, (at + 8, len)).is_some() {
            return Err(Error::failed(format!("storage {name} is listed twice")));
        }
        at += 8 + len;
    }
    match bytes.len() - at {
        0 => Ok(found),
        left => Err(Error::failed(format!("{left} bytes after the last storage belong to none"))),
    }
}
