#!/usr/bin/env python3
"""Checks ONNX graphs with onnx: checker, strict shape inference, external data.

    check_onnx.py PATH... [--root FOLDER] [--load]

Prints one line per graph. The exit code is 1 if any graph has a fault.

The checker knows only the schemas of onnx. A node of another domain must use a domain that the graph imports, and its outputs
must have a declared type and rank. Shape inference continues from these outputs.
"""

import argparse
import sys
from collections import Counter
from math import prod
from pathlib import Path

import onnx
from onnx import TensorProto, checker, helper, shape_inference

STANDARD = ("", "ai.onnx", "ai.onnx.ml")
RUNTIME = (*STANDARD, "com.microsoft")
BITS = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}


def nodes_of(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from nodes_of(inner)


def external_faults(tensor, folder, root):
    """Checks that the byte range of an external initializer exists and matches its type and shape."""
    entry = {e.key: e.value for e in tensor.external_data}
    if "location" not in entry:
        return [f"{tensor.name}: external data without a location"]
    candidates = [folder / entry["location"], root / entry["location"]]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        return [f"{tensor.name}: no file {candidates[0]} or {candidates[1]}"]
    bits = BITS.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    expected = (prod(tensor.dims) * bits + 7) // 8
    offset, length = int(entry.get("offset", 0)), int(entry.get("length", expected))
    size = path.stat().st_size
    faults = []
    if length != expected:
        faults.append(f"{tensor.name}: {length} bytes for a tensor of {expected}")
    if offset + length > size:
        faults.append(f"{tensor.name}: bytes {offset}..{offset + length} of {path}, which has {size}")
    return faults


def standalone(model):
    """Returns a copy whose external initializers and outputs of non-standard nodes are graph inputs.

    onnx then needs no external files. Shape inference stops at the first unknown operator, so those nodes are removed."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    declared = {v.name: v for v in model.graph.value_info}
    outputs = {v.name for v in model.graph.output}
    standard_nodes = []
    for node in model.graph.node:
        if node.domain in STANDARD or outputs & set(node.output) or not declared.keys() >= set(filter(None, node.output)):
            standard_nodes.append(node)
        else:
            model.graph.input.extend(declared[name] for name in node.output if name)
    del model.graph.node[:]
    model.graph.node.extend(standard_nodes)
    inputs = {value.name for value in model.graph.input}
    inline = []
    for tensor in model.graph.initializer:
        if tensor.data_location != TensorProto.EXTERNAL:
            inline.append(tensor)
        elif tensor.name not in inputs:
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del model.graph.initializer[:]
    model.graph.initializer.extend(inline)
    return model


def non_standard_faults(model):
    """Domains that are used but not imported, and outputs of non-standard nodes without type or rank."""
    imported = {entry.domain for entry in model.opset_import}
    declared = {v.name: v.type.tensor_type for v in (*model.graph.value_info, *model.graph.output)}
    faults = []
    for node in nodes_of(model.graph):
        if node.domain not in imported and not (node.domain in ("", "ai.onnx") and imported & {"", "ai.onnx"}):
            faults.append(f"{node.name or node.op_type}: domain {node.domain!r} is not imported")
        if node.domain in STANDARD:
            continue
        for name in filter(None, node.output):
            tensor_type = declared.get(name)
            if tensor_type is None or not tensor_type.elem_type or not tensor_type.HasField("shape"):
                faults.append(f"{node.name or node.op_type}: output {name!r} of a {node.domain} operator has no declared "
                              "type and rank")  # fmt: skip
    return faults


def load_faults(path, model, root):
    """Loads the graph in ONNX Runtime. Returns its errors, or None if it lacks an operator."""
    import onnxruntime

    if any(node.domain not in RUNTIME for node in nodes_of(model.graph)):
        return None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    in_graph_folder = all((path.parent / entry.value).is_file() for t in model.graph.initializer for entry in t.external_data
                 if entry.key == "location")  # fmt: skip
    folder = path.parent if in_graph_folder else root
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    try:
        onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exception classes share no base class
        return [f"ONNX Runtime: {error}"]
    return []


def check(path, root, load):
    """Checks one graph. Returns (table columns, faults)."""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's exception classes
        return ["–"] * 6, [f"unreadable: {error}"]
    external = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    faults = [fault for tensor in external for fault in external_faults(tensor, path.parent, root)]
    faults += non_standard_faults(model)
    standalone_model = standalone(model)
    values = {v.name: v.type.tensor_type for v in (*model.graph.value_info, *model.graph.output)}
    try:
        checker.check_model(standalone_model, full_check=True)
        inferred = shape_inference.infer_shapes(standalone_model, check_type=True, strict_mode=True, data_prop=True)
        values |= {v.name: v.type.tensor_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        faults.append(" ".join(str(error).split()))
    outputs = [name for node in model.graph.node for name in node.output if name]
    ranked = sum(name in values and values[name].HasField("shape") for name in outputs)
    load_errors = load_faults(path, model, root) if load and not faults else None
    faults += load_errors or []
    non_standard = Counter(f"{n.domain}.{n.op_type}" for n in nodes_of(model.graph) if n.domain not in STANDARD)
    columns = [
        " ".join(f"{entry.domain or 'onnx'}:{entry.version}" for entry in model.opset_import),
        f"{len(model.graph.node)}",
        f"{len(model.graph.initializer)}",
        f"{len(external)}",
        f"{ranked / max(1, len(outputs)):.0%}",
        " ".join(f"{name}×{n}" for name, n in sorted(non_standard.items())) or "–",
    ]
    if load:
        columns.append("–" if load_errors is None else "fault" if load_errors else "ok")
    return columns, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="an .onnx file or a folder")
    parser.add_argument("--root", type=Path, default=Path("/"), help="base folder of external data that is not beside the graph (default: /)")
    parser.add_argument("--load", action="store_true", help="also load each graph in ONNX Runtime on the CPU, if it has all the operators")
    args = parser.parse_args()
    graphs = []
    for path_argument in args.paths:
        graph_paths = sorted(path_argument.rglob("*.onnx")) if path_argument.is_dir() else [path_argument] if path_argument.is_file() else []
        if not graph_paths:
            sys.exit(f"{path_argument}: no .onnx file")
        graphs += graph_paths
    header = ["graph", "opsets", "nodes", "init", "ext", "ranks", "non-standard operators", *(["ORT"] if args.load else [])]
    table, faulty = [header], []
    for path in graphs:
        columns, faults = check(path, args.root, args.load)
        table.append([("✗ " if faults else "  ") + str(path), *columns])
        faulty += [(path, fault) for fault in faults]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(len(header))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for path, fault in faulty:
        print(f"{path}: {fault}", file=sys.stderr)
    print(f"{len(graphs)} graphs, {len({path for path, _ in faulty})} with faults")
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
