//! Runs whose address space is limited (`ulimit -v`): they succeed, or fail with a sentence.

use std::fs;

use crate::{Bench, CLIP, Run, X2, here, split};

/// Runs the binary with at most `kib` KiB of addresses and with backtraces, which need memory.
fn run(bench: &Bench, kib: u64, args: &str) -> Run {
    let binary = assert_cmd::cargo::cargo_bin("crescendo");
    let mut shell = bench.shelled("timeout");
    shell.args(["-k", "1", "60", "bash", "-c", &format!("ulimit -v {kib}; exec \"$0\" \"$@\"")]).arg(binary);
    let output = shell.args(split(args)).arg("--quiet").env("RUST_BACKTRACE", "1").output().unwrap();
    Run { code: output.status.code(), out: output.stdout, err: String::from_utf8_lossy(&output.stderr).into_owned() }
}

/// KiB of addresses with which the binary's libraries are just loaded.
fn least(bench: &Bench) -> u64 {
    let loads = |kib: &u64| run(bench, *kib, "--version").code == Some(0);
    let least = (100_000..1_000_000).step_by(4_000).find(loads);
    least.unwrap()
}

/// Steps above the least addresses that the program starts with.
#[test]
fn missing_addresses_are_a_sentence() {
    let bench = Bench::new();
    let (least, mut bad, mut done) = (least(&bench), Vec::new(), 0);
    let rows = [
        format!("enhance {} -o out/a.mp4 --device cpu --upscale 2 --filter bilinear", here(CLIP)),
        "enhance {pictures}/chelsea.png -o out/a.png --device cpu --upscale 3 --filter lanczos".to_owned(),
        "enhance {media}/moving.gif -o out/a.gif --device cpu --upscale 2 --filter bicubic".to_owned(),
        format!(
            "enhance {{pictures}}/chelsea.png -o out/a.png --device cpu --upscale 2 --upscaling-model-path {}",
            here(X2)
        ),
    ];
    for row in &rows {
        for step in (0..12).map(|k| k * 2_000).chain((3..14).map(|k| k * 10_000)) {
            let run = run(&bench, least + step, row);
            let errors = run.err.lines().filter(|line| line.starts_with("error: ")).count();
            // Rust's library panics if a thread gets its stack and then not one page more.
            if run.err.contains("failed to allocate an alternative stack") {
                continue;
            }
            let crashed =
                ["internal error", "memory allocation of", "panicked"].iter().any(|word| run.err.contains(word));
            let made = bench.made().iter().any(|name| name.starts_with("a."));
            let good = match run.code {
                Some(0) => made,
                Some(3) => errors == 1 && !made,
                // The dynamic linker.
                Some(127) => run.err.contains("error while loading shared libraries") || run.err.contains("glibc"),
                _ => false,
            };
            if !good || crashed {
                bad.push(format!("{} KiB: {row}: {:?} {}", least + step, run.code, run.err));
            }
            done += u32::from(run.code == Some(0));
            fs::remove_dir_all(bench.path("out")).unwrap();
            fs::create_dir(bench.path("out")).unwrap();
        }
    }
    assert!(bad.is_empty() && done > 4, "{done} done\n{}", bad.join("\n"));
}

/// A video that is larger than memory does not take the pictures beside it with it.
#[test]
fn a_huge_item_fails_alone() {
    let bench = Bench::new();
    fs::create_dir(bench.path("in")).unwrap();
    let (width, height) = (12_000_u64, 9_000_u64);
    let header = format!("YUV4MPEG2 W{width} H{height} F25:1 C420\nFRAME\n");
    let huge = fs::File::create(bench.path("in/huge.y4m")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&huge, header.as_bytes(), 0).unwrap();
    // The pixels are a hole in the file.
    huge.set_len(header.len() as u64 + width * height * 3 / 2).unwrap();
    for name in ["in/a.png", "in/z.png"] {
        fs::copy(here("tests/data/media/rgb16.png"), bench.path(name)).unwrap();
    }
    let kib = least(&bench) + 300_000;
    let run = run(&bench, kib, "enhance in -o out --device cpu --upscale 2 --filter bilinear");
    assert_eq!(run.code, Some(2), "{}", run.err);
    let text = "error: in/huge.y4m: ";
    assert!(run.err.starts_with(text) && run.err.contains("memory") && run.err.lines().count() == 1, "{}", run.err);
    assert_eq!(bench.made(), [".crescendo.jsonl", "a.png", "z.png"]);
}
