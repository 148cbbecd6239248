//! Standard output and error that cannot be written, and signals that the parent ignores.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::process::CommandExt,
    process::{Child, Stdio},
    time::Duration,
};

use crate::{Bench, ffmpeg, pty::terminal, report, split};

/// Where a stream of the process goes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sink {
    /// A pipe that the test reads.
    Read,
    /// A full disk.
    Full,
    /// A pipe whose reader is gone.
    Closed,
    /// A terminal that was closed.
    HungUp,
}

impl Sink {
    fn stdio(self) -> Stdio {
        match self {
            Self::Read => Stdio::piped(),
            Self::Full => OpenOptions::new().write(true).open("/dev/full").unwrap().into(),
            Self::Closed => io::pipe().unwrap().1.into(),
            Self::HungUp => terminal().1.into(),
        }
    }
}

/// Rows: arguments, standard output, standard error, exit code, and the expected error if standard error is read.
#[test]
fn streams_that_cannot_be_written() {
    use Sink::{Closed, Full, HungUp, Read};
    const FULL: &str = "error: writing to standard output: No space left on device; redirect it to another file";
    const ENHANCE: &str = "enhance {pictures}/chelsea.png -o out/a.png --upscale 2 --filter bicubic";
    const GENERATE: &str = "generate --model-path {flux} --prompt a --height 32 --width 32 --num-inference-steps 1 \
        --output-file-path out/a.png";
    const TO_OUTPUT: &str = "generate --model-path {flux} --prompt a --height 32 --width 32 --num-inference-steps 1 \
        --quiet --output-file-path -";
    let many = "enhance {pictures} -o out/all --upscale 1 --filter nearest";
    let mut bad = Vec::new();
    for (args, out, err, code, want) in [
        ("doctor --json", Full, Read, 3, FULL),
        ("doctor", Full, Read, 3, FULL),
        ("models list --json", Full, Read, 3, FULL),
        ("inspect {x2}", Full, Read, 3, FULL),
        ("plan generate --model-path {flux} --prompt a", Full, Read, 3, FULL),
        ("completions bash", Full, Read, 3, FULL),
        (TO_OUTPUT, Full, Read, 3, FULL),
        ("generate --prompt a --progressive-levels 0 --json", Full, Read, 1, "error: progressive_levels"),
        ("--help", Full, Read, 0, ""),
        ("generate --help", Full, Read, 0, ""),
        ("--version", Full, Read, 0, ""),
        ("doctor", Closed, Read, 0, ""),
        ("doctor --json", Closed, Read, 0, ""),
        ("doctor", HungUp, Read, 0, ""),
        ("inspect {x2}", Closed, Read, 0, ""),
        ("completions bash", Closed, Read, 0, ""),
        (TO_OUTPUT, Closed, Read, 0, ""),
        (ENHANCE, Read, Full, 0, ""),
        (ENHANCE, Closed, Closed, 0, ""),
        (ENHANCE, Read, HungUp, 0, ""),
        (many, Read, Full, 0, ""),
        (GENERATE, Read, Full, 0, ""),
        (GENERATE, Closed, Closed, 0, ""),
        ("generate --prompt a", Closed, Closed, 3, ""),
        ("enhance nothing.png -o out/a.png --upscale 2 --filter bicubic", Read, Full, 3, ""),
        ("generate --promt a", Full, Full, 1, ""),
    ] {
        let bench = Bench::new();
        let run = bench.command().args(split(args)).stdout(out.stdio()).stderr(err.stdio()).output().unwrap();
        let text = String::from_utf8_lossy(&run.stderr);
        let errors: Vec<&str> = text.lines().filter(|l| l.starts_with("error") || l.contains("panicked")).collect();
        let said = if want.is_empty() { errors.is_empty() } else { errors.len() == 1 && errors[0].starts_with(want) };
        let writes = [ENHANCE, GENERATE, many].contains(&args);
        if run.status.code() != Some(code) || !said || bench.made().is_empty() == writes {
            bad.push(format!("{args}: {out:?} {err:?}: wanted {code} {want}, got {:?} {text}", run.status));
        }
    }
    report(bad);
}

#[test]
fn a_terminal_that_closes_during_a_run() {
    let bench = Bench::new();
    let (mut screen, device) = terminal();
    let args = "generate --model-path {flux} --prompt a --height 64 --width 64 --num-inference-steps 60 \
        --output-file-path out/a.png";
    let mut command = bench.command();
    let child = command.args(split(args)).stdout(Stdio::piped()).stderr(device).env("TERM", "xterm").spawn().unwrap();
    drop(command);
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("denoise") {
        let mut bytes = [0; 256];
        let count = screen.read(&mut bytes).unwrap();
        seen.extend_from_slice(&bytes[..count]);
    }
    drop(screen);
    let run = child.wait_with_output().unwrap();
    assert_eq!((run.status.code(), bench.made()), (Some(0), vec!["a.png".to_owned()]));
}

/// Starts a long run, sends SIGHUP once frames are written, and returns the exit code.
fn hang_up(ignored: bool) -> Option<i32> {
    let bench = Bench::new();
    let clip = bench.path("clip.mp4");
    let source = "testsrc2=size=160x90:rate=25:duration=6";
    ffmpeg(&["-f", "lavfi", "-i", source, "-c:v", "libx264", "-preset", "ultrafast", clip.to_str().unwrap()]);
    let mut command = bench.command();
    command.args(split("enhance clip.mp4 -o out/a.mp4 --upscale 2 --upscaling-model-path {x2} --quiet"));
    let treatment = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
    // SAFETY: `signal` is safe between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::signal(libc::SIGHUP, treatment);
            Ok(())
        })
    };
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while fs::metadata(bench.path("out/.a.part.mp4")).map_or(0, |m| m.len()) == 0 && running(&mut child) {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(running(&mut child), "the run is too short");
    // SAFETY: the child has not been waited for, so its process id is valid.
    assert_eq!(unsafe { libc::kill(child.id() as i32, libc::SIGHUP) }, 0);
    child.wait().unwrap().code()
}

fn running(child: &mut Child) -> bool {
    child.try_wait().unwrap().is_none()
}

#[test]
fn an_ignored_hang_up_stays_ignored() {
    assert_eq!((hang_up(true), hang_up(false)), (Some(0), Some(130)));
}
