"""What the benches against torch share: the binary's seconds in a stage, and turns taken by us and the peer."""

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
    """Seconds that one run of `crescendo enhance` spends in a stage, on the CPU."""
    if not BINARY.exists():
        raise SystemExit(f"no {BINARY}: cargo build --release makes it")
    with tempfile.TemporaryDirectory() as folder:
        dump = Path(folder, "perf.json")
        subprocess.run([BINARY, "enhance", *map(str, args), "--device", "cpu", "--quiet", "--overwrite",
                        "--perf-dump-path", dump], check=True, stdout=subprocess.DEVNULL)  # fmt: skip
        return next(s["seconds"] for s in json.loads(dump.read_text())["stages"] if s["name"] == stage)


def seconds(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def take_turns(what, ours, peer, rounds=5):
    """Ours, theirs, ours, theirs …, so that a busy machine slows both; prints medians and the ratio. `ours` returns its
    seconds; `peer` is timed, after one round that is not."""
    ours()
    peer()
    rows = [(ours(), seconds(peer)) for _ in range(rounds)]
    mine, theirs = (statistics.median(column) for column in zip(*rows))
    for label, column in zip(("crescendo", "torch"), zip(*rows)):
        print(f"{label:10}", *(f"{s:8.3f}" for s in column), "s")
    print(f"{what}: crescendo {mine:.3f} s, torch {theirs:.3f} s; torch/crescendo {theirs / mine:.2f}")
