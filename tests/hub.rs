//! Downloads from a test server on 127.0.0.1: cache layout, resuming, and a one-line error for every failure.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use assert_cmd::Command;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server responds for a repository or file.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Good,
    /// 401 with the hub's code for unaccepted terms.
    Gated,
    /// The tree lists one byte more than the file has.
    Short,
    /// The connection closes within a body.
    Broken,
    /// The server stalls within a body.
    Slow,
}

struct Served {
    manner: Manner,
    files: Vec<(&'static str, Vec<u8>)>,
}

/// A server that lives as long as the test process.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    home: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, repos) = (requests.clone(), Arc::new(repos()));
        let once_broken = Arc::new(Mutex::new(false));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, repos, once) = (log.clone(), repos.clone(), once_broken.clone());
                std::thread::spawn(move || serve(stream, &log, &repos, &once));
            }
        });
        Self { url, requests, home: tempfile::tempdir().unwrap() }
    }

    fn crescendo(&self, args: &[&str]) -> Command {
        let mut command = Command::cargo_bin("crescendo").unwrap();
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("HF_HOME", self.home.path().join("hf"))
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("HF_ENDPOINT", &self.url)
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    /// (exit code, standard output, standard error).
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let out = self.crescendo(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    fn repo(&self, name: &str) -> PathBuf {
        self.home.path().join("hf/hub").join(format!("models--{}", name.replace('/', "--")))
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn repos() -> HashMap<&'static str, Served> {
    let index = br#"{"_class_name": "P", "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", "FluxTransformer2DModel"], "tokenizer": ["transformers", "T5TokenizerFast"]}"#;
    let map = br#"{"weight_map": {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}}"#;
    let model = || {
        vec![
            ("model_index.json", index.to_vec()),
            ("README.md", b"read me".to_vec()),
            ("single.safetensors", vec![9; 5000]),
            ("scheduler/scheduler_config.json", b"{}".to_vec()),
            ("tokenizer/tokenizer.json", b"{\"version\": 1}".to_vec()),
            ("transformer/config.json", b"{\"a\": 1}".to_vec()),
            ("transformer/diffusion_pytorch_model.safetensors.index.json", map.to_vec()),
            ("transformer/diffusion_pytorch_model-00001-of-00001.safetensors", vec![7; 100_000]),
            ("transformer/diffusion_pytorch_model.bin", vec![8; 5000]),
        ]
    };
    HashMap::from([
        ("org/tiny", Served { manner: Manner::Good, files: model() }),
        ("org/gated", Served { manner: Manner::Gated, files: model() }),
        ("org/short", Served { manner: Manner::Short, files: vec![("net.pth", vec![1; 1000])] }),
        ("org/broken", Served { manner: Manner::Broken, files: vec![("net.pth", vec![1; 100_000])] }),
        ("org/slow", Served { manner: Manner::Slow, files: vec![("net.pth", vec![1; 100_000])] }),
        ("org/two", Served { manner: Manner::Good, files: vec![("a.pth", vec![1; 10]), ("sub/b.pth", vec![2; 20])] }),
        ("org/flux", Served { manner: Manner::Good, files: flux() }),
        (
            "org/rife",
            Served { manner: Manner::Good, files: vec![("flownet.pkl", vec![1; 10]), ("x.pkl", vec![2; 20])] },
        ),
    ])
}

/// A small FLUX.1 in the layout of a release.
fn flux() -> Vec<(&'static str, Vec<u8>)> {
    let root = flux_folder();
    let mut files = vec![("model_index.json", std::fs::read(root.join("model_index.json")).unwrap())];
    for folder in std::fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).filter(|path| path.is_dir()) {
        for path in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let name: &str = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned().leak();
            files.push((name, std::fs::read(&path).unwrap()));
        }
    }
    files
}

fn flux_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/flux1-dev/model")
}

fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

fn etag(body: &[u8]) -> String {
    format!("{:016x}{:x}", body.len(), body.first().copied().unwrap_or(0))
}

fn respond(stream: &mut TcpStream, status: &str, headers: &str, length: usize, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
}

fn serve(mut stream: TcpStream, log: &Mutex<Vec<String>>, repos: &HashMap<&str, Served>, once: &Mutex<bool>) {
    let lines: Vec<String> =
        BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let Some(first) = lines.first() else { return };
    log.lock().unwrap().push(lines.join("\n"));
    let mut words = first.split(' ');
    let (verb, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("").trim_start_matches('/');
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|l| l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned()))
    };
    if let Some(name) = path.strip_prefix("files/") {
        return serve_url(&mut stream, name, header("range"), header("if-range"), once);
    }
    let api = path.strip_prefix("api/models/");
    let parts: Vec<&str> = api.unwrap_or(path).splitn(3, '/').collect();
    let repo = parts[..2.min(parts.len())].join("/");
    let rest = parts.get(2).copied().unwrap_or("");
    let Some(served) = repos.get(repo.as_str()) else {
        return respond(&mut stream, "404 Not Found", "X-Error-Code: RepoNotFound\r\n", 0, b"");
    };
    if api.is_some() {
        let json = if rest.starts_with("tree/") {
            let extra = usize::from(served.manner == Manner::Short);
            let row = |(path, body): &(&str, Vec<u8>)| serde_json::json!({"type": "file", "oid": etag(body), "size": body.len() + extra, "path": path});
            serde_json::Value::Array(served.files.iter().map(row).collect())
        } else {
            serde_json::json!({"_id": "1", "id": repo, "sha": COMMIT, "private": false, "tags": [], "siblings": []})
        };
        let body = json.to_string();
        return respond(&mut stream, "200 OK", "Content-Type: application/json\r\n", body.len(), body.as_bytes());
    }
    let file = rest.strip_prefix("resolve/").and_then(|r| r.split_once('/')).map(|(_, file)| file);
    let Some((_, body)) = served.files.iter().find(|(name, _)| Some(*name) == file) else {
        let headers = format!("X-Error-Code: EntryNotFound\r\nX-Repo-Commit: {COMMIT}\r\n");
        return respond(&mut stream, "404 Not Found", &headers, 0, b"");
    };
    if served.manner == Manner::Gated {
        return respond(&mut stream, "401 Unauthorized", "X-Error-Code: GatedRepo\r\n", 0, b"");
    }
    let headers = format!("ETag: \"{}\"\r\nX-Repo-Commit: {COMMIT}\r\n", etag(body));
    let sent = match (verb, served.manner) {
        ("HEAD", _) => &[],
        (_, Manner::Broken | Manner::Slow) => &body[..body.len() / 2],
        _ => body.as_slice(),
    };
    let part = header("range").filter(|_| verb == "GET" && served.manner == Manner::Good).and_then(|range| {
        let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
    });
    if let Some((first, last)) = part {
        let headers = format!("{headers}Content-Range: bytes {first}-{last}/{}\r\n", body.len());
        return respond(&mut stream, "206 Partial Content", &headers, last + 1 - first, &body[first..=last]);
    }
    respond(&mut stream, "200 OK", &headers, body.len(), sent);
    if verb == "GET" && served.manner == Manner::Slow {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

/// Serves a URL. `net.pth` breaks off within the first response; later responses honour Range.
fn serve_url(stream: &mut TcpStream, name: &str, range: Option<String>, if_range: Option<String>, once: &Mutex<bool>) {
    let body: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let tag = "ETag: \"v1\"\r\n";
    match name {
        "net.pth" => {
            let from = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            match from {
                Some(from) if if_range.as_deref() == Some("\"v1\"") => {
                    let range = format!("{tag}Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                    respond(stream, "206 Partial Content", &range, body.len() - from, &body[from..]);
                }
                _ => {
                    let first = !std::mem::replace(&mut *once.lock().unwrap(), true);
                    let sent = if first { &body[..body.len() / 2] } else { &body[..] };
                    respond(stream, "200 OK", tag, body.len(), sent);
                }
            }
        }
        "secret.pth" => respond(stream, "403 Forbidden", "", 0, b""),
        _ => respond(stream, "404 Not Found", "", 0, b""),
    }
}

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

/// `plan generate` of a picture of 64×64, as JSON.
fn planned(server: &Server, model: &str, more: &[&str]) -> serde_json::Value {
    let args =
        ["plan", "generate", "--prompt", "x", "--height", "64", "--width", "64", "--json", "--model-path", model];
    let (code, out, err) = server.run(&[&args, more].concat());
    assert_eq!(code, 0, "{model} {more:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

/// The plan of a model that is not cached equals that of the downloaded model, and says what a run downloads. No weight is
/// downloaded: headers are read by range requests and kept apart from the hub's cache.
#[test]
fn plan_downloads_configurations_and_headers_only() {
    let server = Server::start();
    let local = planned(&server, flux_folder().to_str().unwrap(), &[]);
    assert_eq!((server.count(), &local["download_bytes"]), (0, &serde_json::json!(0)));
    let files = flux();
    let weights: usize = files.iter().filter(|(name, _)| is_weights(name)).map(|(_, body)| body.len()).sum();

    let remote = planned(&server, "org/flux", &[]);
    assert_eq!(remote["download_bytes"], weights);
    let without = |mut plan: serde_json::Value| plan.as_object_mut().unwrap().remove("download_bytes").map(|_| plan);
    assert_eq!(without(remote.clone()), without(local.clone()));
    let snapshot = server.repo("org/flux").join("snapshots").join(COMMIT);
    for (name, _) in &files {
        assert_eq!(snapshot.join(name).is_file(), !is_weights(name), "{name}");
    }
    let requests = server.requests.lock().unwrap().clone();
    let of_weights = |r: &&String| r.lines().next().unwrap().contains(".safetensors HTTP");
    assert!(requests.iter().any(|r| of_weights(&r)));
    let whole: Vec<_> = requests.iter().filter(of_weights).filter(|r| !r.to_lowercase().contains("range: ")).collect();
    assert!(whole.is_empty(), "{whole:?}");

    // The second plan asks nothing, nor does one without a network.
    let asked = server.count();
    assert_eq!(
        (planned(&server, "org/flux", &[]), planned(&server, "org/flux", &["--offline"])),
        (remote.clone(), remote)
    );
    assert_eq!(server.count(), asked);

    // A run does not take headers for weights.
    let (code, _, err) = server.run(&["generate", "--prompt", "x", "--model-path", "org/flux", "--offline"]);
    assert_eq!(code, 3);
    assert!(err.contains("org/flux is not complete") && err.contains(".safetensors"), "{err}");
    assert_eq!(server.run(&["models", "pull", "org/flux"]).0, 0);
    assert_eq!(planned(&server, "org/flux", &["--offline"]), local);
}

/// Without a network and without headers, the configs give levels and sizes, and the catalogue the bytes.
#[test]
fn plan_works_from_configs_alone() {
    let server = Server::start();
    let catalogue = 23_802_816_640_u64 + 246_120_960 + 9_524_621_312 + 167_639_366;
    for (model, bytes) in [("black-forest-labs/FLUX.1-dev", Some(catalogue)), ("org/other", None)] {
        let repo = server.repo(model);
        for (name, body) in flux().into_iter().filter(|(name, _)| !is_weights(name)) {
            let path = repo.join("snapshots").join(COMMIT).join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, body).unwrap();
        }
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        let plan = planned(&server, model, &["--offline", "--progressive-mode", "dct_rewind"]);
        let bytes = serde_json::json!(bytes);
        assert_eq!((&plan["download_bytes"], &plan["weights_bytes"]), (&bytes, &bytes), "{model}");
        assert!(plan["memory_bytes"].is_null() && plan["stages"][1].get("flop").is_none(), "{plan}");
        assert_eq!((&plan["stages"][1]["height"], &plan["sizes"][0]["height"]), (&8.into(), &64.into()));
        assert!(plan["notes"].to_string().contains("the weights are not cached"), "{plan}");
    }
    assert_eq!(server.count(), 0);
}

/// A file of the hub that is no safetensors file.
#[test]
fn plan_names_a_file_without_a_header() {
    let server = Server::start();
    let (code, _, err) = server.run(&["plan", "generate", "--prompt", "x", "--model-path", "org/tiny"]);
    let want = "transformer/diffusion_pytorch_model-00001-of-00001.safetensors of org/tiny does not begin with a safetensors header";
    assert!(code == 3 && err.contains(want), "{code} {err}");
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
