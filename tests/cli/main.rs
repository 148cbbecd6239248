//! The command line: messages, exit codes, configuration files, JSON output, completions, help.

#![allow(clippy::unwrap_used, clippy::too_many_lines)]

mod flags;
mod habits;
mod help;

use std::path::Path;

use assert_cmd::Command;

struct Answer {
    code: i32,
    out: String,
    err: String,
}

fn crescendo(folder: &Path, args: &[&str]) -> Answer {
    let out = Command::cargo_bin("crescendo")
        .unwrap()
        .args(args)
        .current_dir(folder)
        .env("HF_HOME", folder.join("hf"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("CRESCENDO_MODELS", folder.join("models"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Answer { code: out.status.code().unwrap(), out: text(out.stdout), err: text(out.stderr) }
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("in.png", "not a picture"), ("taken.png", ""), ("empty.txt", "\n"), ("prompts.md", "x")] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::create_dir(folder.path().join("pictures")).unwrap();
    folder
}

/// Rows: arguments after `generate --prompt x`, and the expected error.
#[test]
fn generate_rejects_invalid_arguments() {
    let folder = folder();
    let mut bad = Vec::new();
    for (args, want) in [
        ("--progressive-mode foo", "progressive_mode must be one of 'fullres', 'dct', or 'dct_rewind', got 'foo'"),
        ("--progressive-transform haar", "--progressive-transform must be one of 'dct', 'dwt', or 'fft', got 'haar'"),
        ("--progressive-levels 0", "progressive_levels must be a positive int, got 0"),
        ("--progressive-levels=-3", "progressive_levels must be a positive int, got -3"),
        ("--progressive-levels -3", "progressive_levels must be a positive int, got -3"),
        ("--progressive-levels 1.5", "progressive_levels must be a positive int, got 1.5"),
        ("--progressive_levels two", "progressive_levels must be a positive int, got 'two'"),
        ("--progressive-delta 0", "progressive_delta must be in (0, 1), got 0"),
        ("--progressive-delta 1", "progressive_delta must be in (0, 1), got 1"),
        ("--progressive-delta nan", "progressive_delta must be in (0, 1), got nan"),
        ("--frame-interpolation-exp 0", "frame_interpolation_exp must be an int in [1, 4], got 0"),
        ("--frame-interpolation-exp 5", "frame_interpolation_exp must be an int in [1, 4], got 5"),
        ("--frame-interpolation-scale 0.2", "frame_interpolation_scale must be in [0.25, 4.0], got 0.2"),
        ("--frame-interpolation-scale 4.1", "frame_interpolation_scale must be in [0.25, 4.0], got 4.1"),
        ("--upscaling-scale 0", "upscaling_scale must be an int in [1, 8], got 0"),
        ("--upscaling-scale 9", "upscaling_scale must be an int in [1, 8], got 9"),
        ("--num-inference-steps 0", "num_inference_steps must be a positive int, got 0"),
        ("--num-outputs 0", "num_outputs_per_prompt must be a positive int, got 0"),
        ("--seed -1", "seed must be a non-negative int or list of ints, got -1"),
        ("--seed 1 2 --num-outputs 3", "--seed lists 2 seeds but --num-outputs-per-prompt is 3"),
        ("--guidance-scale inf", "guidance_scale must be a finite number >= 0, got inf"),
        ("--output-compression 101", "output_compression must be an int in [0, 100], got 101"),
        ("--x264-preset warp", "x264_preset must be one of ultrafast,"),
        ("--output-size 12", "output_size must be WIDTHxHEIGHT"),
        ("--720p --width 512", "the argument '--720p' cannot be used with '--width <N>'"),
        ("--memory-limit lots", "--memory-limit must be a size such as 8GB"),
        ("--device gpu", "--device must be one of auto, cpu, cuda, cuda:N, tensorrt, got 'gpu'"),
        ("--dtype f64", "invalid value 'f64' for '--dtype <TYPE>'"),
        ("--progressive-scales 0.5 480", "give ratios or pixel heights, not both"),
        ("--progressive-scales 1 0.5", "must ascend, got 1 before 0.5"),
        ("--progressive-scales 1/4 1/2", "must end in 1"),
        ("--progressive-scales 0.5 1 --progressive-levels 1", "cannot be used with"),
        ("--progressive-mode dct --progressive-transform dwt --progressive-scales 1/3 1", "dwt requires a ratio of 2"),
        ("--progressive-spectrum 1", "--progressive-spectrum must be A,BETA"),
        ("--prompt-path p.txt", "cannot be used with"),
        ("--strength 0.5", "--strength requires --image-path"),
        ("--vae-tiling maybe", "--vae-tiling must be one of 'auto', 'on' or 'off', got 'maybe'"),
        ("--vae-tile 0", "--vae-tile must be a positive int, got 0"),
        ("--vae-tiling off --vae-tile 64", "--vae-tile 64 has no effect with --vae-tiling off"),
        ("--image-path nothing.png", "--image-path: no such file: nothing.png"),
        ("--output-file-path x.docx", ".docx cannot be written"),
        ("--output-file-path taken.png", "taken.png already exists; choose another name or pass --overwrite"),
        ("--output-file-path - --seed 1 2", "takes one output"),
        ("--output-file-name a/b.png", "must be a name without folders"),
        ("--output-file-path a.png --output-path b", "cannot be used with"),
        ("--save-latents x.bin", "--save-latents must be a .safetensors file"),
        ("--model-path flux1-deb", "did you mean flux1-dev?"),
        ("--model-path in.png", "expected a folder in diffusers layout"),
        ("--promt y", "unexpected argument '--promt' found; did you mean --prompt?"),
        ("-e crf", "-e takes KEY=VALUE"),
        ("--config nothing.yaml", "--config nothing.yaml: No such file"),
    ] {
        let mut all = vec!["generate", "--prompt", "x"];
        all.extend(args.split(' '));
        let result = crescendo(folder.path(), &all);
        check(&mut bad, args, &result, 1, want);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn check(bad: &mut Vec<String>, name: &str, result: &Answer, code: i32, want: &str) {
    let errors: Vec<&str> = result.err.lines().filter(|l| l.starts_with("error: ")).collect();
    let one = errors.len() == 1 && errors[0].contains(want) && result.out.is_empty();
    if result.code != code || !one || result.err.contains("RUST_BACKTRACE") || result.err.contains("panicked") {
        bad.push(format!("{name}: wanted {code} {want}, got {} {}{}", result.code, result.out, result.err));
    }
}

#[test]
fn other_commands_reject_invalid_arguments() {
    let folder = folder();
    let mut bad = Vec::new();
    for (args, code, want) in [
        ("", 1, "a subcommand is required"),
        ("generat", 1, "unrecognized subcommand 'generat'; did you mean generate?"),
        ("generate", 1, "a prompt is required: give --prompt or --prompt-path"),
        ("generate --prompt-path prompts.md", 1, "prompt_path must be a txt file, got 'prompts.md'"),
        ("generate --prompt-path empty.txt", 1, "contains no prompt"),
        ("generate --prompt x", 3, "no --model-path was given and the built-in demo model is not at"),
        ("generate --prompt x --model-path wan-1.3b", 3, "nothing of it is cached (28.9 GB in all)"),
        ("enhance", 1, "an input is required"),
        ("enhance in.png", 1, "an output is required"),
        ("enhance in.png -o out.png", 1, "nothing to do: give --interpolate, --upscale or --refine"),
        ("enhance pictures -o out --upscale 2", 1, "pictures: contains no picture and no video"),
        ("enhance pictures/*.tif -o out --upscale 2", 1, "pictures/*.tif: matches no file"),
        ("enhance pictures -o out.png --upscale 2", 1, "contains no picture"),
        ("enhance f_%03d.png -o out.mp4 --upscale 2", 1, "f_%03d.png: numbered pictures need --fps"),
        ("enhance f_%03d.png -o out.mp4 --upscale 2 --fps 24", 1, "matches no file; f_001.png would be one"),
        ("enhance nothing.png -o out.png --upscale 2", 3, "nothing.png: the file does not exist"),
        ("enhance in.png in.png -o taken.png --upscale 2", 1, "-o taken.png is a file, but there are 2 inputs"),
        ("enhance in.png -o in.png --upscale 2 --overwrite", 1, "-o in.png is the input itself"),
        ("enhance in.png -o taken.png --upscale 2", 1, "taken.png already exists"),
        ("enhance in.png -o out.png --upscale 9", 1, "--upscale must be a factor in [1, 8], got 9"),
        ("enhance in.png -o out.png --upscale 2 --upscaling-scale 2", 1, "cannot be used with"),
        ("enhance in.png -o out.mp4 --interpolate fast", 1, "--interpolate must be a factor such as 2x"),
        ("enhance in.png -o out.mp4 --interpolate 2x --start 5 --end 1:0.5", 3, "RIFE"),
        ("enhance in.png -o out.mp4 --interpolate 2x --start 5 --end 2", 1, "--start 5 must be before --end 2"),
        (
            "enhance in.png -o out.mp4 --interpolate 2x --scene-threshold 2",
            1,
            "--scene-threshold must be in [0, 1], got 2",
        ),
        ("models pull flux", 1, "did you mean"),
        ("models rm flux1-dev", 1, "is not in the cache"),
        ("inspect nothing.pth", 1, "there is no file or folder nothing.pth"),
        ("completions tcsh", 1, "invalid value 'tcsh'"),
        ("plan generate --prompt x --progressive-levels 0", 1, "progressive_levels must be a positive int, got 0"),
    ] {
        let args: Vec<&str> = args.split(' ').filter(|a| !a.is_empty()).collect();
        check(&mut bad, &args.join(" "), &crescendo(folder.path(), &args), code, want);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

/// Rows: text of `config.<extension>`, arguments after `generate`, and the message that shows the effective value.
#[test]
fn configuration_files_and_flags_are_merged() {
    let folder = folder();
    let mut bad = Vec::new();
    for (extension, text, args, want) in [
        ("yaml", "progressive_levels: 0\nprompt: x\n", "", "progressive_levels must be a positive int, got 0"),
        (
            "toml",
            "progressive-levels = 0\nprompt = ['x', 'y']\n",
            "",
            "progressive_levels must be a positive int, got 0",
        ),
        ("json", r#"{"progressive_levels": 0, "prompt": "x"}"#, "", "progressive_levels must be a positive int, got 0"),
        ("yaml", "progressive_levels: 0\n", "--prompt x --progressive-levels -7", "got -7"),
        ("yaml", "progressive_levels: 0\n", "--prompt x --progressive_levels 1", "no --model-path was given"),
        ("yaml", "prompt_path: none.txt\n", "--prompt x", "no --model-path was given"),
        ("yaml", "width: 0\n", "--prompt x --720p", "no --model-path was given"),
        ("yaml", "num-outputs: 0\n", "--prompt x", "num_outputs_per_prompt must be a positive int, got 0"),
        ("yaml", "save_output: false\noutput_file_path: x.docx\n", "--prompt x", "no --model-path was given"),
        (
            "yaml",
            "save_output: false\noutput_file_path: x.docx\n",
            "--prompt x --save-output",
            ".docx cannot be written",
        ),
        ("yaml", "seed: [1, 2]\nnum_outputs: 3\n", "--prompt x", "--seed lists 2 seeds"),
        (
            "yaml",
            "progresive_levels: 2\n",
            "--prompt x",
            "config.yaml: unknown key progresive_levels; did you mean progressive-levels?",
        ),
        ("yaml", "enable_upscaling: 3\n", "--prompt x", "enable_upscaling must be true or false, got 3"),
        ("yaml", "width: [1, 2]\n", "--prompt x", "width must be a text, a number"),
        ("yaml", "- 1\n", "--prompt x", "expected flag names with their values"),
        ("yaml", "a: [\n", "--prompt x", "--config config.yaml: "),
        ("ini", "", "--prompt x", "must end in .yaml, .yml, .toml or .json"),
        ("yaml", "", "--prompt x", "no --model-path was given"),
    ] {
        let name = format!("config.{extension}");
        std::fs::write(folder.path().join(&name), text).unwrap();
        let mut all = vec!["generate", "--config", &name];
        all.extend(args.split(' ').filter(|a| !a.is_empty()));
        let result = crescendo(folder.path(), &all);
        let code = if want.starts_with("no --model-path") { 3 } else { 1 };
        check(&mut bad, &format!("{text:?} {args}"), &result, code, want);
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn json_output_is_one_document() {
    let folder = folder();
    std::fs::write(folder.path().join("json.yaml"), "json: true\n").unwrap();
    let mut bad = Vec::new();
    for (args, code, key) in [
        ("doctor --json", None, "onnxruntime"),
        ("--json doctor", None, "disk"),
        ("models list --json", Some(0), "models"),
        ("models du --json", Some(0), "repos"),
        ("generate --json --prompt x", Some(3), "error"),
        ("generate --json --promt x", Some(1), "error"),
        ("generate --json --prompt x --progressive-levels 0", Some(1), "exit_code"),
        ("generate --prompt x --config json.yaml", Some(3), "error"),
        ("enhance nothing.png -o out.png --upscale 2 --json", Some(3), "error"),
        ("generat --json", Some(1), "error"),
        ("generate --json --prompt x --output-file-path -", Some(1), "error"),
    ] {
        let result = crescendo(folder.path(), &args.split(' ').collect::<Vec<_>>());
        let document: Result<serde_json::Value, _> = serde_json::from_str(&result.out);
        let good = document.as_ref().is_ok_and(|d| {
            d.get(key).is_some() && d.get("exit_code").is_none_or(|c| *c == serde_json::json!(result.code))
        });
        if !good || code.is_some_and(|c| c != result.code) {
            bad.push(format!("{args}: wanted {code:?} {key}, got {} {}{}", result.code, result.out, result.err));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn completions() {
    let folder = folder();
    for (shell, want) in [("bash", "complete -F"), ("zsh", "#compdef crescendo"), ("fish", "complete -c crescendo")] {
        let result = crescendo(folder.path(), &["completions", shell]);
        assert_eq!(result.code, 0);
        assert!(result.out.contains(want) && result.out.contains("progressive-levels"), "{shell}");
    }
}

/// `src/cli/flags.rs` shows what each of them changes.
#[test]
fn help_names_every_flag() {
    const SHARED: &str = "config log-level quiet json device dtype threads memory-limit onnxruntime offline";
    const POST: &str = "enable-frame-interpolation frame-interpolation-exp frame-interpolation-scale \
        frame-interpolation-model-path enable-upscaling upscaling-scale upscaling-model-path";
    const ENCODING: &str =
        "output-quality output-compression x264-preset codec crf pix-fmt overwrite fps perf-dump-path quality";
    const GENERATE: &str = "model-path prompt prompt-path negative-prompt seed generator-device num-outputs-per-prompt num-outputs \
        height width 720p 1080p 2k 4k output-size num-frames num-inference-steps guidance-scale true-cfg-scale flow-shift cfg-normalization cfg-truncation \
        progressive-mode progressive-levels progressive-delta progressive-scales progressive-transform progressive-spectrum \
        image-path strength vae-tiling vae-tile vae-tile-overlap output-path output-file-name output-file-path no-save-output save-latents defaults";
    const ENHANCE: &str = "output interpolate upscale recursive skip-existing jobs fail-fast report tile tile-overlap \
        denoise-strength denoise-model-path scene-threshold dedup start end chunk refine refine-model refine-prompt refine-by refine-strength refine-stages refine-tile refine-tile-overlap \
        negative-prompt num-inference-steps guidance-scale true-cfg-scale seed filter";
    let folder = folder();
    let mut bad = Vec::new();
    for (command, lists) in [
        ("generate", vec![SHARED, POST, ENCODING, GENERATE]),
        ("plan generate", vec![SHARED, POST, ENCODING, GENERATE]),
        ("enhance", vec![SHARED, POST, ENCODING, ENHANCE]),
        ("plan enhance", vec![SHARED, POST, ENCODING, ENHANCE]),
        ("export", vec![SHARED, "output portable overwrite"]),
        ("inspect", vec![SHARED]),
        ("models pull", vec![SHARED]),
        ("doctor", vec![SHARED]),
    ] {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--help");
        let help = crescendo(folder.path(), &args);
        assert_eq!(help.code, 0);
        let words: Vec<&str> = help.out.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).collect();
        for flag in lists.iter().flat_map(|l| l.split_whitespace()) {
            if !words.contains(&format!("--{flag}").as_str()) {
                bad.push(format!("{command} --help does not name --{flag}"));
            }
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn prompts_from_standard_input() {
    let folder = folder();
    let run = |text: &str| {
        let mut command = Command::cargo_bin("crescendo").unwrap();
        command.args(["generate", "--prompt-path", "-", "--output-file-path", "-", "--offline"]);
        let out =
            command.current_dir(folder.path()).env("CRESCENDO_MODELS", "none").write_stdin(text).output().unwrap();
        String::from_utf8(out.stderr).unwrap()
    };
    assert!(run("a\n\n b \n").contains("takes one output"));
    assert!(run("").contains("contains no prompt"));
    assert!(run("a\n\n").contains("no --model-path was given"));
}
