//! What a terminal shows of a download.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use crate::{pty::terminal, server::Server};

/// The text on the screen up to `end`, or all of it if the program closes the terminal before.
fn read_until(screen: &mut File, end: &str) -> String {
    let mut seen = Vec::new();
    let mut bytes = [0; 256];
    while !String::from_utf8_lossy(&seen).contains(end) {
        match screen.read(&mut bytes) {
            // A terminal whose last writer is gone is an error.
            Ok(0) | Err(_) => break,
            Ok(count) => seen.extend_from_slice(&bytes[..count]),
        }
    }
    String::from_utf8_lossy(&seen).into_owned()
}

/// Rows: the input, flags without a network's name, and the announcement. The server never completes these files, so the announcement
/// comes before the download.
#[test]
fn a_default_network_is_announced_before_it_is_downloaded() {
    let mut bad = Vec::new();
    for (input, flags, file, want) in [
        (
            "pictures/chelsea.png",
            ["--upscale", "2"],
            "RealESRGAN_x2.pth",
            "downloading RealESRGAN_x2.pth of ai-forever/Real-ESRGAN, 67 kB, licence BSD-3-Clause",
        ),
        (
            "clips/big-buck-bunny.mp4",
            ["--interpolate", "2x"],
            "flownet.pkl",
            "downloading flownet.pkl of elfgum/RIFE-4.22.lite, 20 kB, licence MIT",
        ),
    ] {
        let server = Server::start();
        let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(input);
        let output = server.home.path().join("o").with_extension(input.extension().unwrap());
        let (mut screen, device) = terminal();
        let mut command = Command::new(assert_cmd::cargo::cargo_bin("crescendo"));
        command.arg("enhance").args([&input, Path::new("-o"), &output]).args(flags);
        server.environment(&mut command);
        let mut child = command.env("TERM", "xterm").stdout(Stdio::null()).stderr(device).spawn().unwrap();
        // The device must not stay open in this process.
        drop(command);
        let seen = read_until(&mut screen, want);
        while !server.requests.lock().unwrap().iter().any(|r| r.starts_with("GET") && r.contains(file)) {
            assert!(child.try_wait().unwrap().is_none(), "{file}: {seen}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // SAFETY: the child has not been waited for, so its process id is valid.
        unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
        let code = child.wait().unwrap().code();
        if !seen.contains(want) || code != Some(130) || output.exists() {
            bad.push(format!("{file}: {code:?} {seen}"));
        }
    }
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}
