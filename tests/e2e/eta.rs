//! The time left of a batch.

use std::{fs, io::Read, process::Stdio, time::Instant};

use crate::{Bench, ffmpeg, pty::terminal, split};

/// Seconds of a text such as `1m 5s left` or `12s left`.
fn seconds(text: &str) -> Option<f64> {
    let (head, _) = text.split_once(" left")?;
    let words: Vec<&str> = head.rsplit(' ').take(2).collect();
    let unit = |word: &str, end: char, scale: f64| Some(word.strip_suffix(end)?.parse::<f64>().ok()? * scale);
    let value = |word: &str| unit(word, 's', 1.0).or_else(|| unit(word, 'm', 60.0)).or_else(|| unit(word, 'h', 3600.0));
    value(words.first()?)
}

/// Removes the control sequences of a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\u{1b}' {
            plain.push(c);
        } else if rest.next() == Some('[') {
            rest.find(|c| c.is_ascii_alphabetic());
        }
    }
    plain
}

/// One large picture after four small ones. When the small ones are finished, the time left is that of the large one: item counts
/// would give a quarter of the time of the small ones.
#[test]
fn the_time_left_of_a_batch_counts_pixels() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    for (name, size) in [("a", 192), ("b", 192), ("c", 192), ("d", 192), ("large", 960)] {
        let source = format!("testsrc2=s={size}x{size}:d=0.04:r=25");
        let path = bench.path(&format!("in/{name}.png"));
        ffmpeg(&["-f", "lavfi", "-i", &source, "-frames:v", "1", path.to_str().unwrap()]);
    }
    let (mut screen, device) = terminal();
    let mut command = bench.command();
    command.args(split("enhance in -o out --upscale 2 --upscaling-model-path {x2} --threads 1"));
    let mut child = command.stdout(Stdio::null()).stderr(device).env("TERM", "xterm").spawn().unwrap();
    drop(command);
    let (mut seen, mut first, mut bytes) = (String::new(), None, [0; 4096]);
    while let Ok(count @ 1..) = screen.read(&mut bytes) {
        seen += &String::from_utf8_lossy(&bytes[..count]);
        let text = plain(&seen);
        let shown = text.rfind(" 4/5 ").and_then(|at| seconds(&text[at..]));
        first = first.or_else(|| shown.map(|left| (left, Instant::now())));
    }
    assert!(child.wait().unwrap().success(), "{seen}");
    let Some((left, when)) = first else { panic!("no time left: {}", plain(&seen)) };
    let true_time = when.elapsed().as_secs_f64();
    let near = (0.25..4.0).contains(&(left / true_time));
    assert!(near, "{left} s left for {true_time:.1} s: {}", plain(&seen));
}
