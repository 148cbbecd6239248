//! FFmpeg's packets ↔ the packets of a packet file.

use std::path::Path;

use ffmpeg_next::{
    Packet, ffi,
    packet::{Mut, Ref},
};

use super::packet_file::StoredPacket;
use crate::error::{Error, Result};

/// A packet to store.
pub(super) fn stored(packet: &Packet) -> StoredPacket {
    // SAFETY: a packet that an encoder filled: data and side data have the stated lengths.
    unsafe {
        let raw = &*packet.as_ptr();
        let bytes = |at: *const u8, length: usize| match at.is_null() || length == 0 {
            true => Vec::new(),
            false => std::slice::from_raw_parts(at, length).to_vec(),
        };
        let count = usize::try_from(raw.side_data_elems).unwrap_or(0);
        let side_data = (0..count).map(|i| &*raw.side_data.add(i)).map(|s| (s.type_ as u32, bytes(s.data, s.size)));
        StoredPacket {
            times: [raw.pts, raw.dts, raw.duration],
            flags: raw.flags,
            side_data: side_data.collect(),
            data: bytes(raw.data, raw.size.max(0) as usize),
        }
    }
}

/// A stored packet. `path`: of its file, for the error.
///
/// # Errors
/// Side data of a type that FFmpeg does not have; no memory for it.
pub(super) fn restored(stored: &StoredPacket, path: &Path) -> Result<Packet> {
    let mut packet = Packet::copy(&stored.data);
    for (kind, bytes) in &stored.side_data {
        if *kind >= ffi::AVPacketSideDataType::AV_PKT_DATA_NB as u32 {
            let path = path.display();
            return Err(Error::failed(format!(
                "{path} is damaged: unknown side data {kind}; --overwrite starts again"
            )));
        }
        // SAFETY: the packet is owned. The types are numbered from 0 without gaps. FFmpeg allocates side data of the length that is
        // then filled.
        unsafe {
            let kind: ffi::AVPacketSideDataType = std::mem::transmute(*kind);
            let room = ffi::av_packet_new_side_data(packet.as_mut_ptr(), kind, bytes.len());
            if room.is_null() {
                return Err(Error::failed(format!("{}: out of memory", path.display())));
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), room, bytes.len());
        }
    }
    // SAFETY: the packet is owned.
    let raw = unsafe { &mut *packet.as_mut_ptr() };
    ([raw.pts, raw.dts, raw.duration], raw.flags) = (stored.times, stored.flags);
    Ok(packet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_restored() {
        let full = StoredPacket {
            times: [7, -3, 40],
            flags: 1,
            side_data: vec![(1, b"extradata".to_vec()), (0, vec![9; 1024])],
            data: b"data".to_vec(),
        };
        let empty = StoredPacket { times: [i64::MIN, 0, 0], flags: 0, side_data: Vec::new(), data: Vec::new() };
        for packet in [full, empty] {
            assert_eq!(stored(&restored(&packet, Path::new("a")).unwrap()), packet);
        }
        let unknown =
            StoredPacket { times: [0; 3], flags: 0, side_data: vec![(u32::MAX, Vec::new())], data: Vec::new() };
        let message = restored(&unknown, Path::new("a/00003")).map(|_| ()).unwrap_err().to_string();
        assert!(message.starts_with("a/00003 is damaged"), "{message}");
    }
}
