//! Files that name other files. Nothing but the file itself is read; each fails with a sentence.

use std::{fs, path::Path};

use crescendo::media::{
    sniff,
    video::{Rational, Reader, Timing, VideoOptions, VideoSpec, Writer, probe},
};

use crate::{ffmpeg, report};

/// A box of ISO BMFF (ISO/IEC 14496-12 §4.2).
fn boxed(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32 + 8).to_be_bytes()[..], kind, body].concat()
}

/// A QuickTime alias record that names `path`, as FFmpeg reads it.
fn alias(path: &str) -> Vec<u8> {
    let mut record = vec![0; 4 + 10];
    record.extend([1, b'v']);
    record.resize(14 + 28 + 12, 0);
    record.extend([1, b'f']);
    record.resize(14 + 28 + 12 + 64 + 16, 0);
    record.extend([0, 1, 0, 1]);
    record.resize(record.len() + 16, 0);
    record.extend([0, 2]);
    record.extend((path.len() as u16).to_be_bytes());
    record.extend(path.as_bytes());
    record.extend([0; 2][..path.len() % 2].iter());
    record.extend([0xff, 0xff, 0, 0]);
    record
}

/// A movie with its data references replaced by an alias of another file.
fn referring(movie: &[u8], path: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), movie);
    while rest.len() >= 8 {
        let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
        let (this, next) = rest.split_at(length);
        let kind: &[u8; 4] = this[4..8].try_into().unwrap();
        match kind {
            b"moov" | b"trak" | b"mdia" | b"minf" | b"dinf" => out.extend(boxed(kind, &referring(&this[8..], path))),
            b"dref" => {
                let entry = boxed(b"alis", &alias(path));
                out.extend(boxed(kind, &[&[0, 0, 0, 0, 0, 0, 0, 1][..], &entry].concat()));
            }
            _ => out.extend(this),
        }
        rest = next;
    }
    out
}

/// Writes the hostile files and what they name. Returns (name, part of the expected message).
fn hostile(folder: &Path) -> Vec<(&'static str, &'static str)> {
    fs::create_dir_all(folder.join("private")).unwrap();
    let made = "-f lavfi -i testsrc2=s=64x64:r=25:d=1 -c:v libx264 -preset ultrafast";
    for name in ["private/secret.mp4", "private/secret.ts", "self.mov"] {
        ffmpeg(folder, &format!("{made} @/{name}"));
    }
    ffmpeg(folder, "-f lavfi -i testsrc2=s=64x64 -frames:v 2 @/private/secret_%03d.png");
    ffmpeg(folder, "-f lavfi -i testsrc2=s=64x64 -frames:v 3 @/frame_%03d.jpg");
    let at = |name: &str| folder.join("private").join(name).display().to_string();
    let secret = at("secret.mp4");
    let hls = |uri: &str| format!("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1.0,\n{uri}\n#EXT-X-ENDLIST\n");
    let sdp = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n\
               a=rtpmap:96 H264/90000\n";
    let dash = format!(
        "<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" type=\"static\" \
         mediaPresentationDuration=\"PT1S\"><Period><AdaptationSet mimeType=\"video/mp4\"><Representation id=\"0\" \
         bandwidth=\"1\"><BaseURL>{secret}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    );
    let svg = format!(
        "<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\" width=\"64\" height=\"64\">\
         <image href=\"{}\"/></svg>",
        at("secret_001.png")
    );
    let text = format!("\x1b[31msecrets\x1b[0m\r\n{}", "a line of text\r\n".repeat(60));
    let movie = referring(&fs::read(folder.join("self.mov")).unwrap(), &secret);
    let refers = "refers to other files";
    let files: Vec<(&str, Vec<u8>, &str)> = vec![
        ("playlist.mp4", hls("private/secret.ts").into(), refers),
        ("absolute.mkv", hls(&at("secret.ts")).into(), refers),
        ("address.mp4", hls("http://127.0.0.1:9/secret.ts").into(), refers),
        ("script.mkv", format!("ffconcat version 1.0\nfile '{secret}'\n").into(), refers),
        ("relative.mp4", "ffconcat version 1.0\nfile 'private/secret.mp4'\n".into(), refers),
        ("dash.mp4", dash.into(), ""),
        ("session.mp4", sdp.into(), refers),
        ("external.mov", movie, "refers to another file"),
        ("frame_%03d.jpg", "no picture".into(), "neither a picture nor a video"),
        ("frame_*.png", "no picture".into(), "neither a picture nor a video"),
        ("letter.txt", text.clone().into(), "neither a picture nor a video"),
        ("text.mp4", text.into(), ""),
        ("vector.mp4", svg.into(), ""),
    ];
    let write = |(name, bytes, want)| {
        fs::write(folder.join(name), bytes).unwrap();
        (name, want)
    };
    fs::remove_file(folder.join("self.mov")).unwrap();
    files.into_iter().map(write).collect()
}

#[test]
fn references_to_other_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut faults = Vec::new();
    for (name, want) in hostile(folder.path()) {
        let path = folder.path().join(name);
        let target = folder.path().join("out.mkv");
        let spec = VideoSpec { source: Some(path.clone()), ..VideoSpec::new(64, 64, Rational::new(25, 1)) };
        let doors = [
            ("sniff", sniff(&path).map(|_| ()).err()),
            ("probe", probe(&path).map(|_| ()).err()),
            ("reader", Reader::open(&path).map(|_| ()).err()),
            ("timing", Timing::read(&path).map(|_| ()).err()),
            ("range", Timing::read_range(&path, Some(0.0), None).map(|_| ()).err()),
            ("source", Writer::create(&target, &VideoOptions::default(), &spec).map(|_| ()).err()),
        ];
        for (door, error) in doors {
            let message = error.map_or_else(|| "no error".to_owned(), |e| e.to_string());
            if !message.contains(name) || !message.contains(want) || message.contains('\n') {
                faults.push(format!("{name}, {door}: {message}"));
            }
        }
    }
    report(&faults);
}

/// A file with a name that FFmpeg would read as a pattern or an address is read as itself.
#[test]
fn names_have_no_meaning() {
    let folder = tempfile::tempdir().unwrap();
    let made = "-f lavfi -i testsrc2=s=64x64:r=25:d=0.2 -c:v libx264 -preset ultrafast";
    ffmpeg(folder.path(), &format!("{made} @/plain.mp4"));
    let mut faults = Vec::new();
    for name in ["frame_%03d.mp4", "a*b?.mp4", "concat:x|y.mp4", "http:x.mp4", "-", "no extension", "{a,b}.mkv"] {
        let path = folder.path().join(name);
        fs::copy(folder.path().join("plain.mp4"), &path).unwrap();
        let frames = Reader::open(&path).map(|r| r.filter(Result::is_ok).count());
        if !matches!(frames, Ok(5)) {
            faults.push(format!("{name}: {frames:?}"));
        }
    }
    report(&faults);
}

/// What is neither a picture nor a video: only a name that promises one is a reason to look for a better copy.
#[test]
fn text_is_called_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let text = "no video here\n".repeat(100);
    let what = "is neither a picture nor a video";
    let mut faults = Vec::new();
    for (name, advice) in [
        ("letter.txt", ""),
        ("Makefile", ""),
        ("a.b.md", ""),
        ("photo.jpg", ", despite its name; get a complete copy"),
        ("photo.PNG", ", despite its name; get a complete copy"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &text).unwrap();
        let wanted = format!("{}: {what}{advice}", path.display());
        let found = [sniff(&path).map(drop), probe(&path).map(drop)].map(|e| e.unwrap_err().to_string());
        if found != [&*wanted; 2] {
            faults.push(format!("{name}: {found:?}"));
        }
    }
    report(&faults);
}
