//! The zip format of torch ≥ 1.6: `<root>/data.pkl` has the tensors, `<root>/data/<key>` are their storages.

use super::{Contents, object::Storage, pickle::Machine, quoted, torch::Collector, zip::Directory};
use crate::error::{Error, Result};

/// Reads the tensors of a torch zip file.
///
/// # Errors
/// One sentence, without the file's name: a damaged or compressed archive, TorchScript, big-endian data, a pickle that needs more than
/// tensors, a tensor that exceeds its storage.
pub fn read(bytes: &[u8]) -> Result<Contents> {
    let zip = Directory::read(bytes)?;
    let root = root(&zip)?;
    let inside = |name: &str| format!("{root}/{name}");
    let constants = inside("constants.pkl");
    if zip.names().any(|name| name == constants) {
        return Err(Error::failed("is a TorchScript program, not a checkpoint; save its state_dict instead"));
    }
    if let Some((start, len)) = zip.find(&inside("byteorder"))? {
        let order = &bytes[start..start + len];
        if order != b"little" {
            let order = quoted(&String::from_utf8_lossy(&order[..len.min(20)]));
            return Err(Error::failed(format!("unsupported byte order {order}; supported: `little`")));
        }
    }
    let (start, len) = zip.find(&inside("data.pkl"))?.ok_or_else(not_torch)?;
    let mut pickle = Machine::new(&bytes[..start + len], start);
    let top = pickle.run()?;
    let locate = |storage: &Storage<'_>| {
        let name = inside(&format!("data/{}", storage.key));
        zip.find(&name)?.ok_or_else(|| Error::failed(format!("its data {} is missing in the file", quoted(&name))))
    };
    Collector { objects: pickle.objects(), bytes, locate }.collect(top)
}

/// The folder with all entries. Any name is valid.
fn root<'a>(zip: &Directory<'a>) -> Result<&'a str> {
    let mut roots = zip.names().filter_map(|name| name.strip_suffix("/data.pkl"));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (None, _) => Err(not_torch()),
        _ => Err(Error::failed("zip file has several checkpoints; expected one")),
    }
}

fn not_torch() -> Error {
    Error::failed("is a zip file without data.pkl, so not a torch checkpoint")
}
