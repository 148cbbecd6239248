//! Journals of batches and of long videos, and the packets of chunks.

use std::{fs, io::Cursor, path::Path};

use super::scratch;
use crate::{
    batch::record::Record,
    json_lines::JsonLines,
    media::{
        packet_file::{PacketReader, PacketWriter},
        rational::Rational,
        timing::Timing,
    },
    pipeline::{chunk_lines::records, resume_point::ResumePoint},
    stage::timeline::{OutputRate, Timeline, Transition},
};

/// The journal of an output folder: lines are read, another one is appended, and all are read again.
pub fn journal(bytes: &[u8]) {
    let path = scratch().join("journal.jsonl");
    fs::write(&path, bytes).unwrap();
    let file = JsonLines::new(&path);
    let before = file.read(0).unwrap();
    let mut end = 0;
    for line in &before {
        assert!(!line.text.is_empty() && !line.text.contains(&b'\n') && line.end > end);
        end = line.end;
        if let Ok(record) = line.parse::<Record>() {
            let again: Record = serde_json::from_slice(&serde_json::to_vec(&record).unwrap()).unwrap();
            assert_eq!(again, record);
        }
    }
    file.append(&"last").unwrap();
    let after = file.read(0).unwrap();
    assert!(after.starts_with(&before) && after.len() <= before.len() + 2);
    assert_eq!(after.last().unwrap().parse::<String>().unwrap(), "last");
    file.truncate(end).unwrap();
    assert_eq!(file.read(0).unwrap(), before);
}

/// The journal of a long video of 100 frames. Every resume point that is accepted leads to as many frames as a whole run.
pub fn chunk_journal(bytes: &[u8]) {
    let path = scratch().join("chunks.jsonl");
    fs::write(&path, bytes).unwrap();
    let lines = JsonLines::new(&path).read(0).unwrap();
    let Some((_, entries)) = lines.split_first() else { return };
    let timing = Timing::at_rate(Rational::new(25, 1), 100);
    for rate in [OutputRate::Keep, OutputRate::Times(2), OutputRate::Grid { num: 12, den: 5 }] {
        let timeline = Timeline::new(rate, 0.0, 6);
        let records = records(entries, &|point: &ResumePoint| point.fits(&timeline, &timing));
        let mut frames = 0;
        for record in records {
            assert!(record.chunk.frames() > frames);
            frames = record.chunk.frames();
            let Some(point) = record.next else { continue };
            let mut resumed = timeline.clone().resume(point.timeline.clone());
            let mut count = 0;
            for position in (point.before.saturating_add(1)..100).take(100) {
                count += resumed.push(position, Transition::Motion).len();
            }
            count += resumed.finish(timing.last).len();
            assert!(count <= 250, "{count} frames, {rate:?}, {point:?}");
        }
    }
}

/// The packets of a chunk. They are written again to the same bytes.
pub fn packets(bytes: &[u8]) {
    let path = Path::new("chunk");
    let Ok(reader) = PacketReader::new(Cursor::new(bytes), path) else { return };
    let again = scratch().join("chunk");
    let mut writer = PacketWriter::create(&again, &reader.head).unwrap();
    let mut total = 0;
    let mut complete = true;
    for packet in reader {
        let Ok(packet) = packet else {
            complete = false;
            break;
        };
        total += packet.data.len() + packet.side_data.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        writer.write(&packet).unwrap();
    }
    writer.finish().unwrap();
    let written = fs::read(again).unwrap();
    assert!(total <= bytes.len() && bytes.starts_with(&written) && (!complete || written.len() == bytes.len()));
}
