//! `plan` downloads configs, headers and sizes, and no weights.

use std::{path::Path, sync::atomic::Ordering};

use serde_json::{Value, json};

use crate::server::{COMMIT, Server, flux, flux_folder, is_weights};

/// `plan generate` of a picture of 64×64, as JSON.
fn planned(server: &Server, model: &str, more: &[&str]) -> Value {
    let args =
        ["plan", "generate", "--prompt", "x", "--height", "64", "--width", "64", "--json", "--model-path", model];
    let (code, out, err) = server.run(&[&args, more].concat());
    assert_eq!(code, 0, "{model} {more:?}: {err}");
    serde_json::from_str(&out).unwrap()
}

fn is_of_memory(note: &Value) -> bool {
    note.as_str().unwrap().starts_with("memory: ")
}

/// A plan without what depends on the memory of the process that plans.
fn without_memory(mut plan: Value) -> Value {
    plan["notes"].as_array_mut().unwrap().retain(|note| !is_of_memory(note));
    plan.as_object_mut().unwrap().remove("memory_bytes");
    plan
}

/// The plan of a model that is not cached equals that of the downloaded model, and says what a run downloads. No weight is
/// downloaded: headers are read by range requests and kept apart from the hub's cache.
#[test]
fn plan_downloads_configurations_and_headers_only() {
    let server = Server::start();
    let local = planned(&server, flux_folder().to_str().unwrap(), &[]);
    assert_eq!((server.count(), &local["download_bytes"]), (0, &json!(0)));
    let files = flux();
    let weights: usize = files.iter().filter(|(name, _)| is_weights(name)).map(|(_, body)| body.len()).sum();

    let remote = planned(&server, "org/flux", &[]);
    assert_eq!(remote["download_bytes"], weights);
    // The memory contains that of the process which plans.
    let memory = |plan: &Value| plan["memory_bytes"].as_f64().unwrap();
    assert!((0.9..1.1).contains(&(memory(&remote) / memory(&local))), "{remote} {local}");
    let (local, remote) = (without_memory(local), without_memory(remote));
    let but_bytes = |plan: &Value| {
        let mut plan = plan.clone();
        plan.as_object_mut().unwrap().remove("download_bytes");
        plan
    };
    assert_eq!(but_bytes(&remote), but_bytes(&local));
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
    for more in [&[][..], &["--offline"]] {
        assert_eq!(without_memory(planned(&server, "org/flux", more)), remote, "{more:?}");
    }
    assert_eq!(server.count(), asked);

    // A run does not take headers for weights.
    let (code, _, err) = server.run(&["generate", "--prompt", "x", "--model-path", "org/flux", "--offline"]);
    assert_eq!(code, 3);
    assert!(err.contains("org/flux is not complete") && err.contains(".safetensors"), "{err}");
    assert_eq!(server.run(&["models", "pull", "org/flux"]).0, 0);
    assert_eq!(without_memory(planned(&server, "org/flux", &["--offline"])), local);
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
        let bytes = json!(bytes);
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

/// `plan enhance` of a picture or clip, as JSON.
fn enhanced(server: &Server, input: &str, args: &str) -> Value {
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join(input);
    let output = server.home.path().join("o").with_extension(input.extension().unwrap());
    let mut all = vec!["plan", "enhance", input.to_str().unwrap(), "-o", output.to_str().unwrap(), "--json"];
    all.extend(args.split(' '));
    let (code, out, err) = server.run(&all);
    assert_eq!(code, 0, "{args}: {err}");
    serde_json::from_str(&out).unwrap()
}

const PICTURE: &str = "tests/data/pictures/chelsea.png";
const CLIP: &str = "tests/data/clips/big-buck-bunny.mp4";
/// Sizes of the networks that the server has.
const X2: u64 = 67_000;
const RIFE: u64 = 19_500;

/// Rows: the input, flags, and the bytes that a run downloads (`None`: unknown). The server counts the bytes of a plan.
#[test]
fn networks_are_not_downloaded_for_a_plan() {
    let server = Server::start();
    let url = format!("--upscale 2 --upscaling-model-path {}/files", server.url);
    let known = "--upscale 4 --upscaling-model-path realesrgan-x4plus --offline";
    let mut bad = Vec::new();
    for (input, args, want) in [
        (PICTURE, "--upscale 2", Some(X2)),
        (PICTURE, "--upscale 2 --filter bicubic", Some(0)),
        (PICTURE, "--upscale 2 --upscaling-model-path org/two:a.pth", Some(10)),
        (
            PICTURE,
            "--upscale 2 --upscaling-model-path org/two:a.pth --denoise-strength 0.5 --denoise-model-path org/two:sub/b.pth",
            Some(30),
        ),
        (CLIP, "--interpolate 2x", Some(RIFE)),
        (CLIP, "--interpolate 2x --upscale 2", Some(RIFE + X2)),
        (CLIP, "--interpolate 2x --frame-interpolation-model-path org/rife", Some(10)),
        (PICTURE, &format!("{url}/net.pth"), Some(200_000)),
        (PICTURE, &format!("{url}/no-head.pth"), None),
        // Without a network, the catalogue tells the size: four bytes for each parameter.
        (PICTURE, "--upscale 2 --offline", Some(4 * 16_703_171)),
        (PICTURE, known, Some(4 * 16_697_987)),
        (CLIP, "--interpolate 2x --offline", Some(4 * 4_866_052)),
    ] {
        let plan = enhanced(&server, input, args);
        let noted = plan["notes"].to_string().contains("is not cached: a run downloads it first");
        if plan["download_bytes"] != json!(want) || noted == (want == Some(0)) || !plan["seconds"].is_null() {
            bad.push(format!("{args}: wanted {want:?}, got {plan}"));
        }
    }
    let generated = planned(&server, "org/flux", &["--enable-upscaling", "--upscaling-scale", "2"]);
    let weights: usize = flux().iter().filter(|(name, _)| is_weights(name)).map(|(_, body)| body.len()).sum();
    if generated["download_bytes"] != json!(weights as u64 + X2)
        || !generated["notes"].to_string().contains("realesrgan-x2")
    {
        bad.push(format!("generate: {generated}"));
    }
    let cache = server.home.path().join("hf/hub");
    for (name, file) in [("ai-forever--Real-ESRGAN", "RealESRGAN_x2.pth"), ("elfgum--RIFE-4.22.lite", "flownet.pkl")] {
        let path = cache.join(format!("models--{name}/snapshots/{COMMIT}/{file}"));
        bad.extend(path.exists().then(|| format!("{} was downloaded", path.display())));
    }
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
    let requests = server.requests.lock().unwrap().clone();
    let whole: Vec<_> =
        requests.iter().filter(|r| r.starts_with("GET") && [".pth", ".pkl"].iter().any(|e| r.contains(e))).collect();
    assert!(whole.is_empty(), "{whole:?}");
}

/// A plan of default networks costs the tree of their repository.
#[test]
fn a_plan_of_networks_takes_few_bytes() {
    let server = Server::start();
    enhanced(&server, CLIP, "--interpolate 2x --upscale 2");
    let bytes = server.sent.load(Ordering::SeqCst);
    assert!(bytes > 0 && bytes < 2000, "{bytes} bytes");
}

/// A network that is cached costs nothing, with a network and without.
#[test]
fn a_cached_network_is_not_downloaded() {
    let server = Server::start();
    let place = server.repo("ai-forever/Real-ESRGAN").join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&place).unwrap();
    std::fs::create_dir_all(server.repo("ai-forever/Real-ESRGAN").join("refs")).unwrap();
    std::fs::write(server.repo("ai-forever/Real-ESRGAN").join("refs/main"), COMMIT).unwrap();
    let x2 = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/esrgan/compact-x2.safetensors");
    std::fs::copy(x2, place.join("RealESRGAN_x2.pth")).unwrap();
    for more in ["", " --offline"] {
        let plan = enhanced(&server, PICTURE, &format!("--upscale 2{more}"));
        let notes: Vec<_> = plan["notes"].as_array().unwrap().iter().filter(|note| !is_of_memory(note)).collect();
        assert_eq!((&plan["download_bytes"], notes.len()), (&json!(0), 0), "{plan}");
    }
    assert_eq!(server.count(), 0);
}

/// Rows: a network that a run cannot use either, the exit code, and the message.
#[test]
fn a_plan_refuses_what_a_run_refuses() {
    let server = Server::start();
    let nothing = format!("{}/files/nothing.pth", server.url);
    let secret = format!("no file at {nothing}");
    let mut bad = Vec::new();
    for (model, more, code, want) in [
        ("org/nothing", "", 3, "has no repository org/nothing; check its name"),
        ("org/two", "", 1, "has 2 networks (a.pth, sub/b.pth); name one"),
        ("org/two:c.pth", "", 3, "org/two has no file c.pth at main; did you mean a.pth?"),
        (nothing.as_str(), "", 3, secret.as_str()),
        ("realesrgan-x3", "", 1, "did you mean realesrgan-x"),
        ("org/two:a.pth", "--offline", 3, "org/two is not complete"),
        (nothing.as_str(), "--offline", 3, "run once without --offline"),
    ] {
        for command in [&["plan", "enhance"][..], &["enhance"]] {
            let picture = Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE);
            let output = server.home.path().join("o.png");
            let mut args = command.to_vec();
            args.extend([picture.to_str().unwrap(), "-o", output.to_str().unwrap(), "--upscale", "2"]);
            args.extend(["--upscaling-model-path", model]);
            args.extend(more.split_whitespace());
            let (found, _, err) = server.run(&args);
            if found != code || !err.contains(want) {
                bad.push(format!("{command:?} {model} {more}: wanted {code} {want}, got {found} {err}"));
            }
        }
    }
    for model in ["org/two:a.pth", "realesrgan-x2", &format!("{}/files/net.pth", server.url)] {
        let (code, _, err) = server.run(&["plan", "generate", "--prompt", "x", "--model-path", model]);
        if code != 1 || !err.contains("a model in diffusers layout has several files") {
            bad.push(format!("{model}: {code} {err}"));
        }
    }
    assert!(bad.is_empty(), "\n{}", bad.join("\n"));
}
