//! The folder of the chunks of a long video, and its journal. `resume` says what they are for.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Instant,
};

use super::chunk_lines::{ChunkRecord, JournalHead, records};
use crate::{
    error::{Error, Result},
    files::hidden_name,
    json_lines::JsonLines,
    media::video::chunk::UnsyncedChunk,
    pipeline::resume_point::ResumePoint,
};

/// File name of the journal.
const JOURNAL: &str = "chunks.jsonl";
/// File name of the journal of the output, for a single file without a journal in its folder.
pub const OUTPUT_JOURNAL: &str = ".crescendo.jsonl";

/// The folder of the chunks of an output file.
pub fn chunk_folder(output: &Path) -> PathBuf {
    let name = output.file_name().unwrap_or_default();
    output.with_file_name(hidden_name(name, OsStr::new(".chunks"), name))
}

/// Removes the folder of the chunks of an output file, if there is one.
///
/// # Errors
/// A folder without a journal of chunks, or with other files, which stay; a link.
pub fn remove_chunks(folder: &Path) -> io::Result<()> {
    let Ok(data) = folder.symlink_metadata() else { return Ok(()) };
    if !data.is_dir() {
        return Err(io::Error::other("is not a folder of chunks; move it"));
    }
    // Last: a folder with one of them is known as one of chunks, and the record of a finished output stays the longest.
    let journals = [journal(folder).path().to_path_buf(), folder.join(OUTPUT_JOURNAL)];
    if journals.iter().any(|journal| journal.is_file()) {
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            if name.len() >= 5 && name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                fs::remove_file(folder.join(name))?;
            }
        }
        for journal in journals.iter().filter(|journal| journal.is_file()) {
            fs::remove_file(journal)?;
        }
    }
    fs::remove_dir(folder).map_err(|e| match e.kind() {
        io::ErrorKind::DirectoryNotEmpty => io::Error::other("has files that are not chunks; move them"),
        _ => e,
    })
}

/// The file of a chunk.
pub(super) fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number:05}"))
}

/// Creates an empty folder with a journal that identifies its chunks.
pub(super) fn create_journal(folder: &Path, head: &JournalHead) -> Result<()> {
    let create = || {
        remove_chunks(folder)?;
        fs::create_dir_all(folder)
    };
    create().map_err(|e| Error::io("writing", folder, &e))?;
    journal(folder).append(head)?;
    // Some file systems cannot sync a folder.
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(parent).and_then(|f| f.sync_all());
    Ok(())
}

fn journal(folder: &Path) -> JsonLines {
    JsonLines::new(folder.join(JOURNAL))
}

/// Waits until the chunk is on disk and appends it to the journal. Returns the seconds this took.
pub(super) fn append(folder: &Path, written: UnsyncedChunk, line: &ChunkRecord) -> Result<f64> {
    let begin = Instant::now();
    written.sync()?;
    let _ = File::open(folder).and_then(|f| f.sync_all());
    journal(folder).append(line)?;
    Ok(begin.elapsed().as_secs_f64())
}

/// The valid chunks of an earlier run. Truncates the journal after them. `fits`: whether a run can have left a resume point.
pub(super) fn read_journal(
    folder: &Path,
    head: &JournalHead,
    (target, overwrite): (&Path, bool),
    fits: &dyn Fn(&ResumePoint) -> bool,
) -> Result<Vec<ChunkRecord>> {
    let journal = journal(folder);
    // The folder of an unreadable journal is replaced.
    let lines = journal.read(0).unwrap_or_default();
    let Some((first, entries)) = lines.split_first() else { return Ok(Vec::new()) };
    let found: Option<JournalHead> = first.parse().ok();
    if found.as_ref() != Some(head) && !entries.is_empty() {
        let what = match &found {
            Some(found) if found.input != head.input => "of an input that has changed since",
            Some(found) if found.models != head.models => "with other models",
            Some(found) if found.settings != head.settings => "with other settings",
            Some(_) => "with another version of this program or of FFmpeg",
            None => "with an unreadable journal",
        };
        let (target, folder) = (target.display(), folder.display());
        if !overwrite {
            return Err(Error::usage(format!(
                "{target}: a run {what} has left finished chunks in {folder}; --overwrite discards them"
            )));
        }
        tracing::warn!("{target}: chunks of a run {what} are discarded");
        return Ok(Vec::new());
    }
    let mut valid = Vec::new();
    for (number, mut record) in records(entries, fits).into_iter().enumerate() {
        record.chunk.file = file(folder, number);
        if !record.chunk.is_intact() {
            break;
        }
        valid.push(record);
    }
    if valid.len() < entries.len() {
        let path = file(folder, valid.len());
        tracing::warn!("{}: does not match the journal; it is encoded again", path.display());
    }
    journal.truncate(entries[..valid.len()].last().unwrap_or(first).end)?;
    Ok(valid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head() -> JournalHead {
        let [version, input, models, settings] = ["v", "i", "m", "s"].map(str::to_owned);
        JournalHead { version, input, models, settings }
    }

    const HEAD: &str = r#"{"version":"v","input":"i","models":"m","settings":"s"}"#;

    /// The bytes of the file of chunk `k`, and its line in the journal. A chunk has ten frames. The third is the last one.
    fn chunk(k: u64) -> (Vec<u8>, String) {
        let bytes = format!("the bytes of chunk {k}").into_bytes();
        let (hash, length, frames) = (blake3::hash(&bytes).to_hex(), bytes.len(), 10 * (k + 1));
        let given = format!(
            r#"{{"frames":{frames},"span":[0,{frames}],"last":1,"longest":1,"flattened":false,"pixels":null}}"#
        );
        let standing = format!(
            r#"{{"anchor":[{},{}],"repeats":[],"still":false,"count":{frames},"next":null,"begun":true}}"#,
            frames - 1,
            frames - 1
        );
        let next = match k {
            2 => "null".to_owned(),
            _ => format!(
                r#"{{"from":{frames},"number":{frames},"before":{0},"anchor":{0},"stamp":{1},"hash":"h","last":1,"usual":0,"standing":{standing}}}"#,
                frames - 1,
                40 * (frames - 1)
            ),
        };
        (bytes, format!(r#"{{"hash":"{hash}","bytes":{length},"given":{given},"next":{next}}}"#))
    }

    /// The lines of a journal: `0`, `1`, `2`: a chunk; `head`; `broken`: no JSON; `other`: JSON of another kind; `empty`; `x` before a
    /// name: the line without its end.
    fn journal_of(words: &str) -> String {
        let line = |word: &str| match word {
            "head" => HEAD.into(),
            "broken" => r#"{"hash":"#.into(),
            "other" => r#"{"output":"a.mkv"}"#.into(),
            "empty" => String::new(),
            number => chunk(number.parse().unwrap()).1,
        };
        let lines = words.split_whitespace().map(|word| match word.strip_prefix('x') {
            Some(word) => line(word)[..30].to_owned(),
            None => line(word) + "\n",
        });
        lines.collect()
    }

    /// Journal, change of the chunk files, expected valid chunks, and the state after them: the first output frame of the next one, or
    /// `None` if all are finished.
    #[test]
    fn journals_lead_to_resume_points() {
        type Change = fn(&Path);
        let nothing: Change = |_| {};
        let rows: &[(&str, Change, usize, Option<i64>)] = &[
            ("", nothing, 0, Some(0)),
            ("head", nothing, 0, Some(0)),
            ("head 0", nothing, 1, Some(10)),
            ("head 0 1", nothing, 2, Some(20)),
            ("head 0 1 2", nothing, 3, None),
            ("head 0 1 x2", nothing, 2, Some(20)),
            ("head x0", nothing, 0, Some(0)),
            ("xhead", nothing, 0, Some(0)),
            ("head empty 0 empty 1", nothing, 2, Some(20)),
            ("head 0 broken 1", nothing, 1, Some(10)),
            ("head 0 other 1", nothing, 1, Some(10)),
            ("head 0 head 1", nothing, 1, Some(10)),
            ("head broken 0", nothing, 0, Some(0)),
            // The files are numbered in the order of the lines.
            ("head 1 0", nothing, 0, Some(0)),
            ("head 0 0 1", nothing, 1, Some(10)),
            ("head 0 2", nothing, 1, Some(10)),
            ("head 0 1 2", |f| fs::remove_file(file(f, 1)).unwrap(), 1, Some(10)),
            ("head 0 1 2", |f| fs::remove_file(file(f, 0)).unwrap(), 0, Some(0)),
            ("head 0 1 2", |f| fs::write(file(f, 1), "the bytes of chunk X").unwrap(), 1, Some(10)),
            ("head 0 1 2", |f| fs::write(file(f, 2), "the bytes of chunk 2.").unwrap(), 2, Some(20)),
            ("head 0 1 2", |f| fs::write(file(f, 2), "").unwrap(), 2, Some(20)),
            ("head 0 1", |f| fs::write(file(f, 2), "not in the journal").unwrap(), 2, Some(20)),
        ];
        let mut wrong = Vec::new();
        for (n, (words, change, count, from)) in rows.iter().enumerate() {
            let temporary = tempfile::tempdir().unwrap();
            let folder = temporary.path();
            fs::write(folder.join(JOURNAL), journal_of(words)).unwrap();
            (0..3).for_each(|k| fs::write(file(folder, k), chunk(k as u64).0).unwrap());
            change(folder);
            let lines = read_journal(folder, &head(), (Path::new("a.mkv"), false), &|_| true).unwrap();
            let found = match lines.last() {
                None => Some(0),
                Some(line) => line.next.as_ref().map(|point| point.from),
            };
            let frames = lines.last().map_or(0, |line| line.chunk.frames());
            // What follows the valid lines is gone, so that new lines do not follow broken ones.
            let left = fs::read_to_string(folder.join(JOURNAL)).unwrap();
            let kept: Vec<&str> = left.lines().filter(|line| !line.is_empty()).collect();
            let mut valid: Vec<String> = (0..*count as u64).map(|k| chunk(k).1).collect();
            valid.insert(0, HEAD.into());
            let truncated = kept == valid || !words.starts_with("head");
            if lines.len() != *count || found != *from || frames != 10 * *count as u64 || !truncated {
                wrong.push(format!(
                    "row {n}, {words}: {} chunks, {frames} frames, from {found:?}, left {left:?}",
                    lines.len()
                ));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The journal's first line, its chunks, `--overwrite`; what the error says, or the number of chunks that are used.
    #[test]
    fn chunks_of_another_run_are_refused_or_discarded() {
        let with = |key: &str, value: &str| HEAD.replace(key, value);
        let rows: &[(String, &str, bool, Result<usize, &str>)] = &[
            (HEAD.into(), " 0 1", false, Ok(2)),
            (HEAD.into(), " 0 1", true, Ok(2)),
            (with(r#""i""#, r#""j""#), " 0 1", false, Err("a.mkv: a run of an input that has changed since has left")),
            (with(r#""m""#, r#""n""#), " 0", false, Err("a run with other models has left finished chunks in")),
            (with(r#""s""#, r#""t""#), " 0", false, Err("a run with other settings has left finished chunks in")),
            (with(r#""v""#, r#""w""#), " 0", false, Err("with another version of this program or of FFmpeg")),
            ("{}".into(), " 0", false, Err("a run with an unreadable journal has left")),
            ("no JSON".into(), " 0", false, Err("an unreadable journal")),
            ("no JSON".into(), " broken", false, Err("--overwrite discards them")),
            (with(r#""i""#, r#""j""#), " 0 1", true, Ok(0)),
            (with(r#""m""#, r#""n""#), " 0", true, Ok(0)),
            ("no JSON".into(), " 0", true, Ok(0)),
            // Nothing is lost.
            (with(r#""i""#, r#""j""#), "", false, Ok(0)),
            ("no JSON".into(), "", false, Ok(0)),
        ];
        let mut wrong = Vec::new();
        for (first, words, overwrite, want) in rows {
            let temporary = tempfile::tempdir().unwrap();
            let folder = temporary.path();
            let text = format!("{first}\n{}", journal_of(words));
            fs::write(folder.join(JOURNAL), &text).unwrap();
            (0..3).for_each(|k| fs::write(file(folder, k), chunk(k as u64).0).unwrap());
            let found = read_journal(folder, &head(), (Path::new("a.mkv"), *overwrite), &|_| true);
            let unchanged = fs::read_to_string(folder.join(JOURNAL)).unwrap() == text && file(folder, 2).exists();
            let right = match (&found, want) {
                (Ok(lines), Ok(count)) => lines.len() == *count,
                (Err(e), Err(words)) => e.to_string().contains(words) && unchanged,
                _ => false,
            };
            if !right {
                wrong
                    .push(format!("{first}{words} {overwrite}: wanted {want:?}, got {found:?}, unchanged {unchanged}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Names in the folder of chunks; what the error says, or "" if the folder is removed; what stays.
    #[test]
    fn only_chunks_are_removed() {
        let rows = [
            ("", "", ""),
            ("chunks.jsonl", "", ""),
            ("chunks.jsonl 00000 00001 123456 .crescendo.jsonl", "", ""),
            ("chunks.jsonl 00000 notes.txt", "has files that are not chunks; move them", "notes.txt"),
            ("chunks.jsonl 0000 00000x", "has files that are not chunks; move them", "0000 00000x"),
            ("00000", "has files that are not chunks; move them", "00000"),
        ];
        for (names, want, stays) in rows {
            let temporary = tempfile::tempdir().unwrap();
            let folder = temporary.path().join("f");
            fs::create_dir(&folder).unwrap();
            names.split_whitespace().for_each(|name| fs::write(folder.join(name), name).unwrap());
            let said = remove_chunks(&folder).err().map_or_else(String::new, |e| e.to_string());
            let mut left: Vec<String> = fs::read_dir(&folder)
                .map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect())
                .unwrap_or_default();
            left.sort();
            assert_eq!(
                (said.as_str(), left.join(" ").as_str(), folder.exists()),
                (want, stays, !want.is_empty()),
                "{names}"
            );
        }
        let temporary = tempfile::tempdir().unwrap();
        let (real, link, file) =
            (temporary.path().join("real"), temporary.path().join("link"), temporary.path().join("file"));
        fs::create_dir(&real).unwrap();
        fs::write(real.join(JOURNAL), "").unwrap();
        fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        for path in [&link, &file] {
            assert_eq!(remove_chunks(path).unwrap_err().to_string(), "is not a folder of chunks; move it");
        }
        assert!(real.join(JOURNAL).is_file());
        remove_chunks(&temporary.path().join("nothing")).unwrap();
    }

    #[test]
    fn folders_of_chunks_have_names() {
        let long = format!("a/{}.mkv", "n".repeat(251));
        for (output, want) in [("a.mkv", ".a.mkv.chunks"), ("b/a.mkv", "b/.a.mkv.chunks"), ("/b/ä", "/b/.ä.chunks")] {
            assert_eq!(chunk_folder(Path::new(output)), Path::new(want));
        }
        assert!(chunk_folder(Path::new(&long)).file_name().unwrap().len() <= 255);
    }
}
