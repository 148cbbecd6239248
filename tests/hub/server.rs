//! A test server on 127.0.0.1 that speaks the hub's protocol.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use assert_cmd::Command;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// How the server responds for a repository or file.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Manner {
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

pub(crate) struct Served {
    pub(crate) manner: Manner,
    pub(crate) files: Vec<(&'static str, Vec<u8>)>,
}

/// A server that lives as long as the test process.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
    /// Bytes of all bodies.
    pub(crate) sent: Arc<AtomicU64>,
    pub(crate) home: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, repos) = (requests.clone(), Arc::new(repos()));
        let (once_broken, sent) = (Arc::new(Mutex::new(false)), Arc::new(AtomicU64::new(0)));
        let counter = sent.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, repos, once) = (log.clone(), repos.clone(), once_broken.clone());
                let sink = Sink { stream, sent: counter.clone() };
                std::thread::spawn(move || serve(sink, &log, &repos, &once));
            }
        });
        Self { url, requests, sent, home: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn crescendo(&self, args: &[&str]) -> Command {
        let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("crescendo"));
        self.environment(command.args(args));
        Command::from_std(command)
    }

    /// Sets the caches and the hub of a command.
    pub(crate) fn environment(&self, command: &mut std::process::Command) {
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("HF_HOME", self.home.path().join("hf"))
            .env("XDG_CACHE_HOME", self.home.path().join("cache"))
            .env("HF_ENDPOINT", &self.url)
            .env("NO_PROXY", "127.0.0.1");
    }

    /// (exit code, standard output, standard error).
    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let out = self.crescendo(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (out.status.code().unwrap(), text(out.stdout), text(out.stderr))
    }

    pub(crate) fn repo(&self, name: &str) -> PathBuf {
        self.home.path().join("hf/hub").join(format!("models--{}", name.replace('/', "--")))
    }

    pub(crate) fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

pub(crate) fn repos() -> HashMap<&'static str, Served> {
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
        (
            "ai-forever/Real-ESRGAN",
            Served { manner: Manner::Slow, files: vec![("RealESRGAN_x2.pth", vec![1; 67_000])] },
        ),
        ("elfgum/RIFE-4.22.lite", Served { manner: Manner::Slow, files: vec![("flownet.pkl", vec![1; 19_500])] }),
        ("org/two", Served { manner: Manner::Good, files: vec![("a.pth", vec![1; 10]), ("sub/b.pth", vec![2; 20])] }),
        ("org/flux", Served { manner: Manner::Good, files: flux() }),
        (
            "org/rife",
            Served { manner: Manner::Good, files: vec![("flownet.pkl", vec![1; 10]), ("x.pkl", vec![2; 20])] },
        ),
    ])
}

/// A small FLUX.1 in the layout of a release.
pub(crate) fn flux() -> Vec<(&'static str, Vec<u8>)> {
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

pub(crate) fn flux_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/flux1-dev/model")
}

pub(crate) fn is_weights(name: &str) -> bool {
    name.ends_with(".safetensors")
}

pub(crate) fn etag(body: &[u8]) -> String {
    format!("{:016x}{:x}", body.len(), body.first().copied().unwrap_or(0))
}

/// A connection that counts the bytes of bodies.
struct Sink {
    stream: TcpStream,
    sent: Arc<AtomicU64>,
}

impl Sink {
    fn respond(&mut self, status: &str, headers: &str, length: usize, body: &[u8]) {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        self.sent.fetch_add(body.len() as u64, Ordering::SeqCst);
        let stream = &mut self.stream;
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body)).and_then(|()| stream.flush());
    }
}

fn serve(mut stream: Sink, log: &Mutex<Vec<String>>, repos: &HashMap<&str, Served>, once: &Mutex<bool>) {
    let lines: Vec<String> =
        BufReader::new(&stream.stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
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
        let whole = verb != "HEAD";
        return if whole { serve_url(&mut stream, name, &header, once) } else { head_of_url(&mut stream, name) };
    }
    let api = path.strip_prefix("api/models/");
    let parts: Vec<&str> = api.unwrap_or(path).splitn(3, '/').collect();
    let repo = parts[..2.min(parts.len())].join("/");
    let rest = parts.get(2).copied().unwrap_or("");
    let Some(served) = repos.get(repo.as_str()) else {
        return stream.respond("404 Not Found", "X-Error-Code: RepoNotFound\r\n", 0, b"");
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
        return stream.respond("200 OK", "Content-Type: application/json\r\n", body.len(), body.as_bytes());
    }
    let file = rest.strip_prefix("resolve/").and_then(|r| r.split_once('/')).map(|(_, file)| file);
    let Some((_, body)) = served.files.iter().find(|(name, _)| Some(*name) == file) else {
        let headers = format!("X-Error-Code: EntryNotFound\r\nX-Repo-Commit: {COMMIT}\r\n");
        return stream.respond("404 Not Found", &headers, 0, b"");
    };
    if served.manner == Manner::Gated {
        return stream.respond("401 Unauthorized", "X-Error-Code: GatedRepo\r\n", 0, b"");
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
        return stream.respond("206 Partial Content", &headers, last + 1 - first, &body[first..=last]);
    }
    stream.respond("200 OK", &headers, body.len(), sent);
    if verb == "GET" && served.manner == Manner::Slow {
        std::thread::sleep(std::time::Duration::from_secs(60));
    }
}

/// Answers a HEAD request for a URL.
fn head_of_url(stream: &mut Sink, name: &str) {
    match name {
        "net.pth" => stream.respond("200 OK", "", 200_000, b""),
        "no-head.pth" => stream.respond("405 Method Not Allowed", "", 0, b""),
        _ => stream.respond("404 Not Found", "", 0, b""),
    }
}

/// Serves a URL. `net.pth` breaks off within the first response; later responses honour Range.
fn serve_url(stream: &mut Sink, name: &str, header: &dyn Fn(&str) -> Option<String>, once: &Mutex<bool>) {
    let body: Vec<u8> = (0..200_000_u32).map(|i| i as u8).collect();
    let tag = "ETag: \"v1\"\r\n";
    match name {
        "net.pth" => {
            let from = header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            match from {
                Some(from) if header("if-range").as_deref() == Some("\"v1\"") => {
                    let range = format!("{tag}Content-Range: bytes {from}-{}/{}\r\n", body.len() - 1, body.len());
                    stream.respond("206 Partial Content", &range, body.len() - from, &body[from..]);
                }
                _ => {
                    let first = !std::mem::replace(&mut *once.lock().unwrap(), true);
                    let sent = if first { &body[..body.len() / 2] } else { &body[..] };
                    stream.respond("200 OK", tag, body.len(), sent);
                }
            }
        }
        "secret.pth" => stream.respond("403 Forbidden", "", 0, b""),
        _ => stream.respond("404 Not Found", "", 0, b""),
    }
}
