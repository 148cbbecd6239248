#!/usr/bin/env python3
"""Builds the stand-in: the CUDA libraries that ONNX Runtime's CUDA provider asks for.

    tests/cuda/stand_in/build.py ONNXRUNTIME INCLUDE OUT

ONNXRUNTIME: folder of the GPU build of ONNX Runtime. INCLUDE: CUDA's headers. OUT: the folder to write. Functions without code here
log their name and return 0. Does nothing if the sources have not changed.
"""

import hashlib
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
PROVIDER = "libonnxruntime_providers_cuda.so"

# The sources of each library, the soname, and whether its symbols have versions.
LIBRARIES = {
    "libcudart.so.13": ["errors.c", "device.c", "memory.c", "stream.c", "kernel.c"],
    "libcublas.so.13": ["cublas.c"],
    "libcublasLt.so.13": ["cublaslt.c"],
    "libcudnn.so.9": ["cudnn.c"],
    "libcurand.so.10": [],
    "libcuda.so.1": [],
}
# The provider opens these by name, so that their symbols have no version.
OPENED = ("libcudnn.so.9", "libcuda.so.1")


def needed(provider):
    """The functions that the provider needs of each library."""
    found = {name: set() for name in LIBRARIES}
    symbols = subprocess.check_output(["nm", "-D", "--undefined-only", provider], text=True)
    for line in symbols.splitlines():
        name, _, library = line.split()[-1].partition("@")
        if library.startswith("libcu"):
            found[library].add(name)
        elif re.match("cu[A-Z]", name):
            found["libcuda.so.1"].add(name)
    # cuDNN's functions are looked up by name at run time.
    text = provider.read_bytes()
    found["libcudnn.so.9"] |= {match.decode() for match in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", text)}
    return found


def generated(names):
    lines = ['#include "stand_in.h"']
    lines += [f'OUT int {name}(void) {{ generated("{name}"); return 0; }}' for name in sorted(names)]
    return "\n".join(lines) + "\n"


def build(library, names, include, out):
    sources = [HERE / "log.c", *(HERE / source for source in LIBRARIES[library])]
    own = "".join(source.read_text() for source in sources)
    done = set(re.findall(r"^OUT [^(]*?(\w+)\(", own, re.M)) | set(re.findall(r"^DESCRIPTOR_OF\((\w+)\)", own, re.M))
    rest, versions = out / f"{library}.c", out / f"{library}.map"
    rest.write_text(generated(names - done))
    versions.write_text(f"{library} {{ global: *; }};\n")
    script = [] if library in OPENED else [f"-Wl,--version-script={versions}"]
    flags = ["-O1", "-Wall", "-Werror", "-Wno-unused-function", "-shared", "-fPIC", "-fvisibility=hidden", f"-I{HERE}"]
    command = ["gcc", *flags, "-isystem", include, *sources, rest, "-o", out / library, f"-Wl,-soname,{library}", *script, "-lpthread"]
    subprocess.run(command, check=True)


def main(onnxruntime, include, out):
    out.mkdir(parents=True, exist_ok=True)
    link = out / "onnxruntime"
    if not link.is_symlink() or link.readlink() != onnxruntime.resolve():
        link.unlink(missing_ok=True)
        link.symlink_to(onnxruntime.resolve())
    files = [*sorted(HERE.glob("*.[ch]")), HERE / "build.py"]
    hashed = hashlib.sha256(b"".join(file.read_bytes() for file in files) + str(onnxruntime.resolve()).encode()).hexdigest()
    stamp = out / "sources.sha256"
    if stamp.exists() and stamp.read_text() == hashed:
        return
    stamp.unlink(missing_ok=True)
    for library, names in needed(onnxruntime / PROVIDER).items():
        build(library, names, include, out)
    stamp.write_text(hashed)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*(pathlib.Path(argument) for argument in sys.argv[1:]))
