//! Resolves inputs (files, folders, globs, lists, numbered pictures) to jobs: one input and one output file each.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Component, Path, PathBuf},
};

use walkdir::WalkDir;

use crate::{
    error::{Error, Result},
    files::is_folder_name,
    media::format::{self, FileFormat},
    plan::{Input, Job},
};

/// Inputs and output as given on the command line.
#[derive(Debug, Clone, Default)]
pub struct Typed {
    /// Files, folders, globs and patterns of numbered pictures (`frame_%05d.png`).
    pub inputs: Vec<PathBuf>,
    /// Files of the list on standard input. `None`: no list.
    pub list: Option<Vec<PathBuf>>,
    /// A file (one input) or a folder.
    pub output: PathBuf,
    /// Whether to search subfolders.
    pub recursive: bool,
    /// Whether `--fps` was given. Numbered pictures require it.
    pub has_rate: bool,
}

/// The resolved jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jobs {
    /// In the order of the inputs; files of a folder are sorted by name.
    pub jobs: Vec<Job>,
    /// The output folder. `None`: the output is a file.
    pub folder: Option<PathBuf>,
}

/// Finds all inputs and the output file of each. Files of a folder keep their relative path.
///
/// A job whose output is that of another job, or its own input, is refused and the others run.
///
/// Errors: no input found, a gap in numbered pictures, every job refused, an unreadable folder, a single file that does not exist.
pub fn jobs(typed: &Typed) -> Result<Jobs> {
    let mut found = Vec::new();
    let mut one = typed.list.is_none() && typed.inputs.len() == 1;
    for input in &typed.inputs {
        one &= resolve(input, typed, &mut found)?;
    }
    for file in typed.list.iter().flatten() {
        if file.is_dir() {
            tracing::warn!("{}: skipped: it is a folder; the list may contain only files", file.display());
            continue;
        }
        found.push((Input::File(file.clone()), relative_output(file)));
    }
    if let [(Input::File(path), _)] = found.as_slice()
        && one
        && path.symlink_metadata().is_err()
    {
        return Err(Error::failed(format!("{}: the file does not exist", path.display())));
    }
    let slash = is_folder_name(&typed.output);
    let folder = (!one || slash || typed.output.is_dir()).then(|| typed.output.clone());
    if let Some(folder) = &folder {
        check_folder(folder, found.len(), slash)?;
    }
    let mut changed = Vec::new();
    let place = |(input, name): (Input, PathBuf)| {
        let Some(folder) = &folder else { return Job::new(input, typed.output.clone()) };
        let named = format::output_name(&name);
        if named != name {
            changed.push(format!("{} → {}", input.name().display(), named.display()));
        }
        Job::new(input, folder.join(named))
    };
    let jobs = without_conflicts(found.into_iter().map(place).collect())?;
    warn_about("written in another format, because the input's format is read-only", &changed);
    Ok(Jobs { jobs, folder })
}

/// Resolves one input. Appends each found input with the name of its output; returns whether the input is a single file.
fn resolve(input: &Path, typed: &Typed, found: &mut Vec<(Input, PathBuf)>) -> Result<bool> {
    let text = input.to_string_lossy();
    if input.is_dir() {
        search(input, typed, found)?;
        return Ok(false);
    }
    if input.symlink_metadata().is_err() {
        if let Some(pattern) = Pattern::of(input) {
            if !typed.has_rate {
                let name = input.display();
                return Err(Error::usage(format!("{name}: numbered pictures need --fps, the frame rate")));
            }
            found.push((Input::Sequence { pattern: input.into(), files: pattern.files()? }, pattern.name()));
            return Ok(true);
        }
        if text.contains(['*', '?', '[']) {
            expand_glob(&text, found)?;
            return Ok(false);
        }
    }
    found.push((Input::File(input.into()), input.file_name().unwrap_or_default().into()));
    Ok(true)
}

fn check_folder(folder: &Path, inputs: usize, slash: bool) -> Result<()> {
    let shown = folder.display();
    if folder.is_file() {
        let why = if inputs == 1 { "a folder is required".into() } else { format!("there are {inputs} inputs") };
        return Err(Error::usage(format!("-o {shown} is a file, but {why}; give a folder")));
    }
    if !slash && !folder.is_dir() && FileFormat::of_path(folder).is_some() {
        return Err(Error::usage(format!(
            "-o {shown} has the extension of a file, but these inputs require a folder; write {shown}/ if it is a folder"
        )));
    }
    Ok(())
}

/// Finds pictures and videos in a folder by extension. Skips hidden files, the output folder, FIFOs, sockets and devices.
fn search(folder: &Path, typed: &Typed, found: &mut Vec<(Input, PathBuf)>) -> Result<()> {
    let results = typed.output.canonicalize().ok().filter(|o| folder.canonicalize().is_ok_and(|f| f != *o));
    let depth = if typed.recursive { usize::MAX } else { 1 };
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let entries = WalkDir::new(folder).follow_links(true).max_depth(depth).sort_by_file_name().into_iter();
    let entries = entries.filter_entry(|e| {
        let ours =
            e.file_type().is_dir() && results.as_ref().is_some_and(|r| e.path().canonicalize().is_ok_and(|p| p == *r));
        e.depth() == 0 || !(hidden(e.file_name()) || ours)
    });
    let (before, mut others, mut folders, mut special) = (found.len(), Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                unreadable(folder, &e, found)?;
                continue;
            }
        };
        let path = entry.path();
        if !entry.file_type().is_file() && !entry.file_type().is_dir() {
            special.push(path.display().to_string());
        } else if entry.file_type().is_dir() {
            folders.extend((entry.depth() > 0 && !typed.recursive).then(|| path.display().to_string()));
        } else if FileFormat::of_path(path).is_some() {
            let name = path.strip_prefix(folder).unwrap_or(path).to_path_buf();
            found.push((Input::File(path.into()), name));
        } else {
            others.push(path.display().to_string());
        }
    }
    warn_about("skipped, because their extensions are not of pictures or videos", &others);
    warn_about(SPECIAL, &special);
    warn_about("not searched; --recursive searches subfolders", &folders);
    if found.len() == before {
        let hint = if folders.is_empty() { "" } else { "; --recursive searches its subfolders" };
        return Err(Error::usage(format!("{}: contains no picture and no video{hint}", folder.display())));
    }
    Ok(())
}

/// An unreadable entry (broken link, no permission) becomes a job, which fails with the cause. A link to a parent folder is
/// skipped.
fn unreadable(folder: &Path, error: &walkdir::Error, found: &mut Vec<(Input, PathBuf)>) -> Result<()> {
    match error.path() {
        Some(path) if error.loop_ancestor().is_some() => {
            tracing::warn!("{}: skipped: it links to a folder that contains it", path.display());
        }
        Some(path) if error.depth() > 0 => {
            let name = path.strip_prefix(folder).unwrap_or(path).to_path_buf();
            found.push((Input::File(path.into()), name));
        }
        _ => {
            let failed = |e| Error::io("reading the folder", folder, e);
            return Err(error.io_error().map_or_else(|| Error::failed(error.to_string()), failed));
        }
    }
    Ok(())
}

/// Finds the files that match a glob. Their relative path starts after the last folder without wildcards.
fn expand_glob(pattern: &str, found: &mut Vec<(Input, PathBuf)>) -> Result<()> {
    let wrong = |e: &dyn std::fmt::Display| Error::usage(format!("{pattern}: {e}"));
    let literal = |part: &Component<'_>| !part.as_os_str().to_string_lossy().contains(['*', '?', '[']);
    let base: PathBuf = Path::new(pattern).components().take_while(literal).collect();
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
    let (before, mut special) = (found.len(), Vec::new());
    for path in glob::glob_with(pattern, options).map_err(|e| wrong(&e))? {
        let path = path.map_err(|e| wrong(&e))?;
        if path.is_file() {
            let name = path.strip_prefix(&base).unwrap_or(&path).to_path_buf();
            found.push((Input::File(path), name));
        } else if path.exists() && !path.is_dir() {
            special.push(path.display().to_string());
        }
    }
    warn_about(SPECIAL, &special);
    if found.len() == before {
        return Err(Error::usage(format!("{pattern}: matches no file")));
    }
    Ok(())
}

/// Path of a listed file's output below the output folder: relative paths keep their folders, absolute ones only the name.
fn relative_output(file: &Path) -> PathBuf {
    let inside = file.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let named = || PathBuf::from(file.file_name().unwrap_or_default());
    if inside { file.components().filter(|part| *part != Component::CurDir).collect() } else { named() }
}

/// Removes repeated jobs. Refuses jobs that share an output, and those whose output is their input.
///
/// Errors: every job is refused.
fn without_conflicts(mut jobs: Vec<Job>) -> Result<Vec<Job>> {
    let mut seen = HashSet::new();
    jobs.retain(|job| seen.insert((job.input.name().to_path_buf(), job.output.clone())));
    let mut sources: HashMap<PathBuf, Vec<String>> = HashMap::new();
    for job in &jobs {
        sources.entry(job.output.clone()).or_default().push(job.input.name().display().to_string());
    }
    for job in &mut jobs {
        let (output, names) = (job.output.display(), &sources[&job.output]);
        job.refusal = if names.len() > 1 {
            let (names, count) = (listed(names), names.len());
            Some(format!(
                "{names}: {count} inputs would be written to {output}; enhance them into different folders, or rename them"
            ))
        } else {
            let own = job.output.exists() && same(job.input.name(), &job.output);
            own.then(|| format!("-o {output} is the input itself; give another name"))
        };
    }
    match jobs.first().and_then(|job| job.refusal.clone()) {
        Some(why) if jobs.iter().all(|job| job.refusal.is_some()) => Err(Error::usage(why)),
        _ => Ok(jobs),
    }
}

/// The most names in a message.
const SHOWN: usize = 5;

/// `a, b and c`
fn listed(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() && names.len() <= SHOWN => format!("{} and {last}", first.join(", ")),
        _ => format!("{}, …", names[..names.len().min(SHOWN)].join(", ")),
    }
}

fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The warning for FIFOs, sockets and devices in a folder.
const SPECIAL: &str = "skipped, because they are not regular files";

/// Logs one warning for several names.
fn warn_about(what: &str, names: &[String]) {
    if !names.is_empty() {
        let more = if names.len() > SHOWN { ", …" } else { "" };
        tracing::warn!("{} {what}: {}{more}", names.len(), names[..names.len().min(SHOWN)].join(", "));
    }
}

/// The file name pattern of numbered pictures: `frame_%05d.png`.
struct Pattern {
    folder: PathBuf,
    before: String,
    after: String,
    digits: usize,
}

impl Pattern {
    /// Parses a file name with one `%d` or `%0Nd`.
    fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let (before, rest) = name.split_once('%')?;
        let (width, after) = rest.split_once('d')?;
        let digits = if width.is_empty() { 1 } else { width.strip_prefix('0')?.parse().ok()? };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).into();
        Some(Self { folder, before: before.into(), after: after.into(), digits })
    }

    /// `frame_00007.png`
    fn file(&self, number: u64) -> PathBuf {
        let name = format!("{}{number:0width$}{}", self.before, self.after, width = self.digits);
        if self.folder == Path::new(".") { name.into() } else { self.folder.join(name) }
    }

    /// The number in a file's name.
    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(&*self.before)?.strip_suffix(&*self.after)?;
        let number = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
        (format!("{number:0width$}", width = self.digits) == digits).then_some(number)
    }

    /// All files, by number. Errors: no file, or a missing number.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder).map_err(|e| Error::io("reading the folder", &self.folder, &e))?;
        let names = entries.flatten().map(|e| e.file_name());
        let mut numbers: Vec<u64> = names.filter_map(|n| self.number(n.to_str()?)).collect();
        numbers.sort_unstable();
        let Some(first) = numbers.first().copied() else {
            let (first, pattern) = (self.file(1), format!("{}%0{}d{}", self.before, self.digits, self.after));
            return Err(Error::usage(format!("{pattern}: matches no file; {} would be one", first.display())));
        };
        if let Some((gap, _)) = (first..).zip(&numbers).find(|(wanted, found)| wanted != *found) {
            let (gap, last) = (self.file(gap), self.file(numbers[numbers.len() - 1]));
            return Err(Error::usage(format!(
                "{} is missing between {} and {}; numbered pictures must have no gap",
                gap.display(),
                self.file(first).display(),
                last.display()
            )));
        }
        Ok(numbers.into_iter().map(|n| self.file(n)).collect())
    }

    /// Name of the output video in a folder: `frame.mp4`.
    fn name(&self) -> PathBuf {
        let stem = self.before.trim_end_matches(['_', '-', '.', ' ']);
        format!("{}.mp4", if stem.is_empty() { "sequence" } else { stem }).into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        let mut bad = Vec::new();
        for (pattern, number, name) in [
            ("f_%05d.png", 7, "f_00007.png"),
            ("f_%05d.png", 123_456, "f_123456.png"),
            ("%d.jpg", 12, "12.jpg"),
            ("a%03d_b.tif", 0, "a000_b.tif"),
        ] {
            let parsed = Pattern::of(Path::new(pattern)).unwrap();
            if parsed.file(number) != Path::new(name) || parsed.number(name) != Some(number) {
                bad.push(format!("{pattern} {number}: {:?} {:?}", parsed.file(number), parsed.number(name)));
            }
        }
        let five = Pattern::of(Path::new("f_%05d.png")).unwrap();
        for other in ["f_7.png", "f_000007.png", "f_0000x.png", "g_00007.png", "f_00007.jpg", "f_.png"] {
            if let Some(number) = five.number(other) {
                bad.push(format!("{other} is parsed as {number}"));
            }
        }
        for none in ["a.png", "a%b.png", "100%.png", "a%5d.png"] {
            if Pattern::of(Path::new(none)).is_some() {
                bad.push(format!("{none} is parsed as a pattern"));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }

    /// Rows: listed files, and the number that is refused with the words in its message. An error refuses all.
    #[test]
    fn only_items_that_share_an_output_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let rows: [(&[&str], Result<usize, &str>, &str); 6] = [
            (&["a.png", "a.tif", "a.tiff", "a.bmp", "a.gif"], Ok(0), ""),
            (&["a.wmv", "a.mkv", "b.png"], Ok(2), "a.wmv and a.mkv: 2 inputs would be written to"),
            (&["a.wmv", "b.png", "a.vob", "a.mkv"], Ok(3), "a.wmv, a.vob and a.mkv: 3 inputs"),
            (&["a.png", "a.png"], Ok(0), ""),
            (&["/x/a.png", "/y/a.png", "b.png"], Ok(2), "/x/a.png and /y/a.png: 2 inputs"),
            (&["a.wmv", "a.mkv"], Err("a.wmv and a.mkv: 2 inputs"), ""),
        ];
        let mut bad = Vec::new();
        for (files, want, words) in rows {
            let list = Some(files.iter().map(PathBuf::from).collect());
            let found = jobs(&Typed { list, output: folder.path().into(), ..Typed::default() });
            let refusals = |jobs: Jobs| jobs.jobs.into_iter().filter_map(|job| job.refusal).collect::<Vec<_>>();
            let good = match (found.map(refusals), want) {
                (Ok(found), Ok(count)) => found.len() == count && found.iter().all(|why| why.contains(words)),
                (Err(e), Err(words)) => e.to_string().contains(words),
                _ => false,
            };
            bad.extend((!good).then_some(files));
        }
        assert!(bad.is_empty(), "{bad:?}");
    }

    #[test]
    fn places() {
        let mut bad = Vec::new();
        for (listed, want) in
            [("a/b.png", "a/b.png"), ("./a/b.png", "a/b.png"), ("/x/b.png", "b.png"), ("../a/b.png", "b.png")]
        {
            if relative_output(Path::new(listed)) != Path::new(want) {
                bad.push(format!("{listed}: {:?}", relative_output(Path::new(listed))));
            }
        }
        assert!(bad.is_empty(), "{}", bad.join("\n"));
    }
}
