"""Shared code of the benchmarks against torch: seconds of one stage, and alternating rounds."""

import json
import os
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BINARY = ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release/crescendo"


def stage_seconds(stage, *args):
    """Runs `crescendo enhance` on the CPU. Returns the seconds of one stage."""
    if not BINARY.exists():
        raise SystemExit(f"{BINARY} is missing: run cargo build --release")
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder, "perf.json")
        subprocess.run([BINARY, "enhance", *map(str, args), "--device", "cpu", "--quiet", "--overwrite",
                        "--perf-dump-path", dump], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        return next(s["seconds"] for s in json.loads(dump.read_text())["stages"] if s["name"] == stage)


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alternate(title, run_crescendo, run_torch, rounds=5):
    """Runs crescendo and torch in alternation, so that load on the machine slows both. Prints the medians and their ratio.

    `run_crescendo` returns its seconds. `run_torch` is timed here. One untimed round comes first."""
    run_crescendo()
    run_torch()
    rows = [(run_crescendo(), seconds(run_torch)) for _ in range(rounds)]
    crescendo, torch = (statistics.median(column) for column in zip(*rows))
    for label, column in zip(("crescendo", "torch"), zip(*rows)):
        print(f"{label:10}", *(f"{s:8.3f}" for s in column), "s")
    print(f"{title}: crescendo {crescendo:.3f} s, torch {torch:.3f} s; torch/crescendo {torch / crescendo:.2f}")
