//! Downloads from a test server on 127.0.0.1: cache layout, resuming, and a one-line error for every failure.

#![allow(clippy::unwrap_used)]

mod plans;
#[path = "../shared/pty.rs"]
mod pty;
mod server;
mod terminal;

use std::path::Path;

use server::{COMMIT, Server, etag, repos};

#[test]
fn the_cache_layout_equals_huggingface_hub() {
    let server = Server::start();
    let (code, out, err) = server.run(&["models", "pull", "org/tiny", "--json", "--quiet"]);
    assert_eq!(code, 0, "{err}");
    let repo = server.repo("org/tiny");
    let snapshot = repo.join("snapshots").join(COMMIT);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(result["path"], snapshot.to_str().unwrap());
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let served = &repos()["org/tiny"];
    let mut bad = Vec::new();
    for (name, body) in &served.files {
        let wanted = !["README.md", "single.safetensors", "transformer/diffusion_pytorch_model.bin"].contains(name);
        let path = snapshot.join(name);
        match std::fs::read(&path) {
            Ok(_) if !wanted => bad.push(format!("{name} is not needed")),
            Err(_) if wanted => bad.push(format!("{name} is missing")),
            Ok(bytes) if bytes != *body => bad.push(format!("{name} differs")),
            Ok(_) => {
                let up = "../".repeat(name.matches('/').count() + 2);
                let link = std::fs::read_link(&path).unwrap();
                if link != Path::new(&format!("{up}blobs/{}", etag(body))) {
                    bad.push(format!("{name} links to {}", link.display()));
                }
            }
            Err(_) => {}
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));

    let asked = server.count();
    let (code, out, err) = server.run(&["export", "org/tiny", "--offline", "--json"]);
    assert!(!err.contains("not complete"), "{code} {out} {err}");
    let (code, _, err) = server.run(&["plan", "generate", "--prompt", "x", "--model-path", "org/tiny"]);
    assert!(code == 3 && err.contains("unsupported pipeline class \"P\""), "{code} {err}");
    assert_eq!(server.count(), asked, "a model that is cached completely needs no network");

    let (_, out, _) = server.run(&["models", "du", "--json"]);
    let usage: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(usage["repos"][0]["repo"], "org/tiny");
    assert!(usage["repos"][0]["bytes"].as_u64().unwrap() > 100_000);
    assert_eq!(server.run(&["models", "rm", "org/tiny"]).0, 0);
    assert!(!repo.exists());
}

#[test]
fn one_file_of_a_repository_is_downloaded() {
    let server = Server::start();
    let mut bad = Vec::new();
    for (name, want) in [
        ("org/two:sub/b.pth", Ok("sub/b.pth")),
        ("org/rife", Ok("flownet.pkl")),
        ("org/two", Err((1, "has 2 networks (a.pth, sub/b.pth); name one, as in org/two:a.pth"))),
        ("org/two:c.pth", Err((3, "org/two has no file c.pth at main; did you mean a.pth?"))),
    ] {
        let (code, out, err) = server.run(&["models", "pull", name]);
        let good = match want {
            Ok(file) => code == 0 && out.trim_end().ends_with(file) && Path::new(out.trim_end()).is_file(),
            Err((exit, sentence)) => code == exit && err.contains(sentence),
        };
        if !good {
            bad.push(format!("{name}: wanted {want:?}, got {code} {out} {err}"));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn failures_give_a_one_line_error() {
    let server = Server::start();
    let gated = format!("accept the licence at {}/org/gated, then set HF_TOKEN", server.url);
    let mut bad = Vec::new();
    for (name, want) in [
        ("org/nothing", "has no repository org/nothing; check its name"),
        ("org/gated", gated.as_str()),
        ("org/short", "net.pth of org/short was truncated: expected 1001 bytes, got 1000"),
        ("org/broken", "the download of net.pth of org/broken was interrupted"),
        (&format!("{}/files/nothing.pth", server.url), "no file at"),
        (&format!("{}/files/secret.pth", server.url), "may not be downloaded (403 Forbidden)"),
        ("ftp-thing", "neither a short name"),
    ] {
        let (code, out, err) = server.run(&["models", "pull", name]);
        let lines: Vec<&str> = err.lines().filter(|l| l.starts_with("error:")).collect();
        if ![1, 3].contains(&code) || !out.is_empty() || lines.len() != 1 || !lines[0].contains(want) {
            bad.push(format!("{name}: wanted {want}, got {code} {out} {err}"));
        }
    }
    let leftovers =
        ["org/short", "org/broken"].map(|name| server.repo(name).join("snapshots").join(COMMIT).join("net.pth"));
    bad.extend(leftovers.iter().filter(|p| p.exists()).map(|p| format!("{} is left", p.display())));
    let mut nobody = server.crescendo(&["models", "pull", "org/tiny"]);
    let out = nobody.env("HF_ENDPOINT", "http://127.0.0.1:9").output().unwrap();
    let err = String::from_utf8_lossy(&out.stderr).into_owned();
    if !err.contains("http://127.0.0.1:9 cannot be reached for org/tiny") {
        bad.push(format!("no server: {err}"));
    }
    let before = server.count();
    let mut offline = server.crescendo(&["models", "pull", "flux1-dev"]);
    let err = String::from_utf8_lossy(&offline.env("HF_HUB_OFFLINE", "1").output().unwrap().stderr).into_owned();
    if !err.contains("nothing of it is cached (33.7 GB in all)") {
        bad.push(format!("offline: {err}"));
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert_eq!(server.count(), before);
}

#[test]
fn the_token_is_sent() {
    let server = Server::start();
    let token = server.home.path().join("hf");
    std::fs::create_dir_all(&token).unwrap();
    std::fs::write(token.join("token"), "hf_from_file\n").unwrap();
    assert_eq!(server.run(&["models", "pull", "org/rife"]).0, 0);
    assert!(
        server.requests.lock().unwrap().iter().any(|r| r.to_lowercase().contains("authorization: bearer hf_from_file"))
    );
}

#[test]
fn a_broken_download_resumes() {
    let server = Server::start();
    let url = format!("{}/files/net.pth", server.url);
    let (code, _, err) = server.run(&["models", "pull", &url]);
    assert_eq!(code, 3);
    assert!(err.contains("was interrupted after 100000 of 200000 bytes; run again to resume it"), "{err}");
    let (code, out, err) = server.run(&["models", "pull", &url]);
    assert_eq!(code, 0, "{err}");
    let want: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let path = Path::new(out.trim_end());
    assert_eq!(std::fs::read(path).unwrap(), want);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no .part or .tag is left");
    assert!(server.requests.lock().unwrap().last().unwrap().to_lowercase().contains("range: bytes=100000-"));
    let asked = server.count();
    assert_eq!(server.run(&["models", "pull", &url, "--offline"]).0, 0);
    assert_eq!(server.count(), asked);
}

/// A cache as `huggingface_hub` for Python writes it: `refs/main` has no trailing newline, links are relative.
#[test]
fn a_cache_of_huggingface_hub_is_read() {
    let server = Server::start();
    let repo = server.repo("other/model");
    let snapshot = repo.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(repo.join("blobs")).unwrap();
    std::fs::create_dir_all(repo.join("refs")).unwrap();
    std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
    std::fs::write(repo.join("blobs/abc"), "weights").unwrap();
    std::os::unix::fs::symlink("../../blobs/abc", snapshot.join("net.pth")).unwrap();
    std::os::unix::fs::symlink("../../blobs/gone", snapshot.join("gone.pth")).unwrap();
    let (code, out, err) = server.run(&["models", "pull", "other/model:net.pth"]);
    assert_eq!((code, out.trim_end()), (0, snapshot.join("net.pth").to_str().unwrap()), "{err}");
    let (code, _, err) = server.run(&["models", "pull", "other/model:gone.pth", "--offline"]);
    assert_eq!(code, 3);
    assert!(err.contains("other/model is not complete") && err.contains("gone.pth missing"), "{err}");
    assert_eq!(server.count(), 0);
}

#[test]
fn an_interrupt_stops_a_stalled_download() {
    let server = Server::start();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("crescendo"));
    let mut child = command
        .args(["models", "pull", "org/slow"])
        .env_clear()
        .env("HF_HOME", server.home.path())
        .env("HF_ENDPOINT", &server.url)
        .env("NO_PROXY", "127.0.0.1")
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !server.requests.lock().unwrap().iter().any(|r| r.starts_with("GET /org/slow/resolve")) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // SAFETY: the child has not been waited for, so its process id is valid.
    unsafe { libc::kill(child.id() as i32, libc::SIGINT) };
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let err = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert!(err.contains("error: interrupted"), "{err}");
}
