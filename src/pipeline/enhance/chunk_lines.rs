//! The lines of the journal of a long video.

use serde::{Deserialize, Serialize};

use crate::{json_lines::Line, media::video::chunk::Chunk, pipeline::resume_point::ResumePoint};

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalHead {
    /// Of this program and of FFmpeg: encoders of different versions must not be mixed.
    pub version: String,
    pub input: String,
    pub models: String,
    pub settings: String,
}

/// Every other line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ChunkRecord {
    #[serde(flatten)]
    pub chunk: Chunk,
    /// Where to resume after it; `None`: it is the last chunk.
    pub next: Option<ResumePoint>,
}

/// The chunks of the lines after the first one, up to the first line that cannot follow those before it. `fits`: whether a run can
/// have left a resume point.
pub(crate) fn records(lines: &[Line], fits: &dyn Fn(&ResumePoint) -> bool) -> Vec<ChunkRecord> {
    let mut records: Vec<ChunkRecord> = Vec::new();
    for line in lines {
        let Ok(record) = line.parse::<ChunkRecord>() else { break };
        let before = records.last();
        let ended = before.is_some_and(|before| before.next.is_none());
        let continues = |point: &ResumePoint| point.from == record.chunk.end() && fits(point);
        if ended || !record.chunk.follows(before.map(|b| &b.chunk)) || !record.next.as_ref().is_none_or(continues) {
            break;
        }
        records.push(record);
    }
    records
}
