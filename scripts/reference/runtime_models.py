#!/usr/bin/env python3
"""Writes the probes of src/runtime and tests/data/runtime: small graphs, and outputs of the warp operator from torch.

    scripts/reference/runtime_models.py        (requires onnx, torch, numpy)
"""

import pathlib

import numpy as np
import torch
from onnx import TensorProto as T
from onnx import helper as h

ROOT = pathlib.Path(__file__).resolve().parents[2]
DATA = ROOT / "tests/data/runtime"


def value(name, shape, dtype=T.FLOAT):
    return h.make_tensor_value_info(name, dtype, shape)


def save(path, nodes, inputs, outputs, initializers=(), metadata=()):
    graph = h.make_graph(nodes, path.stem, inputs, outputs, list(initializers))
    domains = {node.domain for node in nodes} - {""} or {"crescendo"}
    opsets = [h.make_opsetid("", 23), *(h.make_opsetid(domain, 1) for domain in sorted(domains))]
    model = h.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="crescendo")
    h.set_model_props(model, dict(metadata))
    path.write_bytes(model.SerializeToString())


def graphs():
    save(ROOT / "src/runtime/probe.onnx", [h.make_node("Add", ["x", "x"], ["z"], "add")], [value("x", [2])], [value("z", [2])])
    save(
        DATA / "mixed.onnx",
        [
            h.make_node("Cast", ["half"], ["wide"], "widen", to=T.FLOAT),
            h.make_node("MatMul", ["wide", "x"], ["product"], "/block.0/attn/to_q"),
            h.make_node("Cast", ["product"], ["bf"], "narrow", to=T.BFLOAT16),
            h.make_node("Mul", ["ids", "ids"], ["squares"], "squares"),
        ],
        [value("x", ["k", 3]), value("half", ["batch", "k"], T.FLOAT16), value("ids", ["n"], T.INT32)],
        [value("product", ["batch", 3]), value("bf", ["batch", 3], T.BFLOAT16), value("squares", ["n"], T.INT32)],
        metadata={"crescendo.kind": "test"}.items(),
    )
    save(
        DATA / "warp.onnx",
        [h.make_node("Warp", ["image", "flow"], ["warped"], "warp", domain="crescendo")],
        [value("image", ["n", "c", "h", "w"]), value("flow", ["n", 2, "h", "w"])],
        [value("warped", ["n", "c", "h", "w"])],
    )
    grid = [
        h.make_node("Transpose", ["grid"], ["last"], "last", perm=[0, 2, 3, 1]),
        h.make_node("GridSample", ["image", "last"], ["warped"], "sample", padding_mode="border", align_corners=1),
    ]
    pictures = [value("image", ["n", "c", "h", "w"]), value("grid", ["n", 2, "h", "w"])]
    save(DATA / "grid_sample.onnx", grid, pictures, [value("warped", ["n", "c", "h", "w"])])
    # A test asks this Expand for more memory than the machine has.
    save(
        DATA / "expand.onnx",
        [h.make_node("Expand", ["x", "shape"], ["z"], "/decoder/expand")],
        [value("x", [1]), value("shape", ["k"], T.INT64)],
        [h.make_tensor_value_info("z", T.FLOAT, None)],
    )


def gpu_probe():
    """Writes probe_gpu.onnx: attention over a linear layer over a convolution, and all three in one output, as a GPU's networks have
    them; the same in f32 for the CPU; and probe_gpu.bin, the input and the expected output, f32, little-endian."""
    rows, columns = 4, 8
    x = ((7 * np.arange(rows * columns)) % 11 - 5) / 4
    kernel = np.array([[0, 1, -1], [1, 1, 0], [-1, 0, 1]]) / 2
    weight = ((5 * np.arange(columns * columns)) % 9 - 4).reshape(columns, columns) / 8

    picture = np.pad(x.reshape(rows, columns), 1)
    convolved = sum(kernel[i, j] * picture[i : i + rows, j : j + columns] for i in range(3) for j in range(3))
    product = convolved @ weight.T
    scores = np.exp(product @ product.T / np.sqrt(columns))
    attention = scores / scores.sum(1, keepdims=True) @ product
    values = np.concatenate([x, convolved.ravel(), product.ravel(), attention.ravel()])
    (ROOT / "src/runtime/probe_gpu.bin").write_bytes(values.astype("<f4").tobytes())

    for path, compute in [(ROOT / "src/runtime/probe_gpu.onnx", T.BFLOAT16), (DATA / "probe_gpu_f32.onnx", T.FLOAT)]:
        nodes = [
            h.make_node("Conv", ["x", "kernel"], ["convolved"], "convolution", pads=[1, 1, 1, 1]),
            h.make_node("Reshape", ["convolved", "rows"], ["first"], "rows"),
            h.make_node("Cast", ["first"], ["narrow"], "narrow", to=compute),
            h.make_node("FusedMatMul", ["narrow", "weight"], ["product"], "product", domain="com.microsoft", transB=1),
            h.make_node("Attention", ["product"] * 3, ["attended"], "attention", q_num_heads=1, kv_num_heads=1),
            h.make_node("Cast", ["product"], ["second"], "second", to=T.FLOAT),
            h.make_node("Cast", ["attended"], ["third"], "third", to=T.FLOAT),
            h.make_node("Concat", ["first", "second", "third"], ["z"], "all", axis=0),
        ]
        constants = [
            h.make_tensor("kernel", T.FLOAT, [1, 1, 3, 3], kernel.ravel()),
            h.make_tensor("rows", T.INT64, [3], [1, rows, columns]),
            h.make_tensor("weight", compute, weight.shape, weight.ravel()),
        ]
        save(path, nodes, [value("x", [1, 1, rows, columns])], [value("z", [3, rows, columns])], constants)


def rife_warp(image, flow):
    """The warp of RIFE's IFNet. Source: https://github.com/hzwer/Practical-RIFE, model/warplayer.py."""
    n, _, rows, columns = flow.shape
    x = torch.linspace(-1.0, 1.0, columns).view(1, 1, 1, columns).expand(n, -1, rows, -1)
    y = torch.linspace(-1.0, 1.0, rows).view(1, 1, rows, 1).expand(n, -1, -1, columns)
    scaled = torch.cat([flow[:, :1] / ((columns - 1) / 2), flow[:, 1:] / ((rows - 1) / 2)], 1)
    grid = (torch.cat([x, y], 1) + scaled).permute(0, 2, 3, 1)
    return torch.nn.functional.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=True)


def warps():
    """Writes warp.bin: per case n, c, h, w as i32, then image, flow and output as f32, little-endian."""
    generator = torch.Generator().manual_seed(7)
    with (DATA / "warp.bin").open("wb") as file:
        for n, c, rows, columns, flow_scale in [(1, 1, 2, 2, 1.0), (2, 3, 5, 7, 2.5), (1, 2, 33, 10, 30.0), (1, 3, 4, 4, 0.0), (1, 1, 3, 4, 1e6)]:
            image = torch.randn(n, c, rows, columns, generator=generator)
            flow = torch.randn(n, 2, rows, columns, generator=generator) * flow_scale
            file.write(np.array([n, c, rows, columns], "<i4").tobytes())
            for array in (image, flow, rife_warp(image, flow)):
                file.write(array.numpy().astype("<f4").tobytes())


if __name__ == "__main__":
    DATA.mkdir(parents=True, exist_ok=True)
    graphs()
    gpu_probe()
    warps()
    for path in sorted(DATA.iterdir()):
        print(path.relative_to(ROOT), path.stat().st_size)
