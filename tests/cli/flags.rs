//! Flags that change no plan act on messages, the report and the network. `src/cli/flags.rs` shows that all others change the plan.

use assert_cmd::Command;

use crate::folder;

const PICTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/media/rgb.bmp");

/// Flags, and whether standard error has the summary and a warning, and standard output one JSON document instead of the path.
#[test]
fn verbosity_and_form_of_the_report() {
    let folder = folder();
    let mut bad = Vec::new();
    for (flags, summary, warning, json) in [
        ("", true, true, false),
        ("--quiet", false, false, false),
        ("--log-level info", true, true, false),
        ("--log-level warn", false, true, false),
        ("--log-level error", false, false, false),
        ("--log-level info --quiet", false, false, false),
        ("--json", true, true, true),
        ("--json --quiet", false, false, true),
    ] {
        // No video is written, so --crf has no effect.
        let args = format!("enhance {PICTURE} -o o.png --upscale 2 --filter nearest -y --crf 20 {flags}");
        let run = crate::crescendo(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
        let document: Option<serde_json::Value> = serde_json::from_str(&run.out).ok();
        let output = document.as_ref().and_then(|d| d["items"][0]["output"].as_str());
        let found = (run.err.contains("1 done"), run.err.contains("--crf: no effect"), output == Some("o.png"));
        let silent = run.err.is_empty() != (summary || warning);
        if run.code != 0 || found != (summary, warning, json) || (run.out == "o.png\n") == json || !silent {
            bad.push(format!("{flags}: {} {found:?} {:?} {}", run.code, run.out, run.err));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Without the flag, the network is asked; nobody listens there.
#[test]
fn offline_asks_no_network() {
    let folder = folder();
    for (flags, wanted) in [("", "http://127.0.0.1:9 cannot be reached"), ("--offline", "nothing of it is cached")] {
        let mut command = Command::cargo_bin("crescendo").unwrap();
        command.args(["models", "pull", "org/x"]).args(flags.split_whitespace()).current_dir(folder.path());
        command.env("HF_HOME", folder.path()).env("HF_ENDPOINT", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1");
        let out = command.env_remove("HF_HUB_OFFLINE").output().unwrap();
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(3) && err.contains(wanted), "{flags}: {err}");
    }
}

#[test]
fn flags_of_a_server_are_named() {
    let folder = folder();
    let args = "generate --prompt x --num-gpus 4 --warmup --attention-backend fa";
    let run = crate::crescendo(folder.path(), &args.split_whitespace().collect::<Vec<_>>());
    let wanted = "--warmup, --num-gpus, --attention-backend: no effect; these flags configure SGLang's server";
    assert!(run.err.contains(wanted), "{}", run.err);
}
