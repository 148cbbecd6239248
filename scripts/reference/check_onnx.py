#!/usr/bin/env python3
"""Let onnx judge every graph under the given folders: checker, strict shape inference, external data.

    check_onnx.py PATH... [--root FOLDER] [--load]

One line a graph; exit code 1 if any of them has a fault. `--root` is where locations of external data that are not beside
the graph start (default /). `--load` also opens each graph in ONNX Runtime on the CPU, if it holds only operators that
ONNX Runtime has.

The checker knows no schemas but onnx's own. Nodes of other domains must name a domain that the graph imports, their
outputs must have a stated type and rank, and shape inference goes on from these.
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
    """The bytes an initializer points at must exist and be as many as its type and shape say."""
    entry = {e.key: e.value for e in tensor.external_data}
    if "location" not in entry:
        return [f"{tensor.name}: external data without a location"]
    places = [folder / entry["location"], root / entry["location"]]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return [f"{tensor.name}: no file {places[0]} or {places[1]}"]
    bits = BITS.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    wanted = (prod(tensor.dims) * bits + 7) // 8
    offset, length = int(entry.get("offset", 0)), int(entry.get("length", wanted))
    size = path.stat().st_size
    faults = []
    if length != wanted:
        faults.append(f"{tensor.name}: {length} bytes for a tensor of {wanted}")
    if offset + length > size:
        faults.append(f"{tensor.name}: bytes {offset}..{offset + length} of {path}, which has {size}")
    return faults


def judged_form(model):
    """The same graph with its external initializers as inputs, so that onnx need not find the files itself, and so the
    outputs of foreign nodes: inference reports nothing more once it has met an operator that it does not know."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    stated = {v.name: v for v in model.graph.value_info}
    outputs = {v.name for v in model.graph.output}
    own = []
    for node in model.graph.node:
        if node.domain in STANDARD or outputs & set(node.output) or not stated.keys() >= set(filter(None, node.output)):
            own.append(node)
        else:
            model.graph.input.extend(stated[name] for name in node.output if name)
    del model.graph.node[:]
    model.graph.node.extend(own)
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


def foreign_faults(model):
    """Domains that are used but not imported, and outputs of foreign nodes without type or rank."""
    imported = {entry.domain for entry in model.opset_import}
    stated = {v.name: v.type.tensor_type for v in (*model.graph.value_info, *model.graph.output)}
    faults = []
    for node in nodes_of(model.graph):
        if node.domain not in imported and not (node.domain in ("", "ai.onnx") and imported & {"", "ai.onnx"}):
            faults.append(f"{node.name or node.op_type}: domain {node.domain!r} is not imported")
        if node.domain in STANDARD:
            continue
        for name in filter(None, node.output):
            kind = stated.get(name)
            if kind is None or not kind.elem_type or not kind.HasField("shape"):
                faults.append(f"{node.name or node.op_type}: output {name!r} of a {node.domain} operator has no stated "
                              "type and rank")  # fmt: skip
    return faults


def load_faults(path, model, root):
    """ONNX Runtime's own opinion; None where it lacks an operator."""
    import onnxruntime

    if any(node.domain not in RUNTIME for node in nodes_of(model.graph)):
        return None
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    beside = all((path.parent / entry.value).is_file() for t in model.graph.initializer for entry in t.external_data
                 if entry.key == "location")  # fmt: skip
    folder = path.parent if beside else root
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    try:
        onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes share no base
        return [f"ONNX Runtime: {error}"]
    return []


def check(path, root, load):
    """(columns, faults)"""
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own classes
        return ["–"] * 6, [f"unreadable: {error}"]
    external = [t for t in model.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    faults = [fault for tensor in external for fault in external_faults(tensor, path.parent, root)]
    faults += foreign_faults(model)
    judged = judged_form(model)
    values = {v.name: v.type.tensor_type for v in (*model.graph.value_info, *model.graph.output)}
    try:
        checker.check_model(judged, full_check=True)
        inferred = shape_inference.infer_shapes(judged, check_type=True, strict_mode=True, data_prop=True)
        values |= {v.name: v.type.tensor_type for v in (*inferred.graph.value_info, *inferred.graph.output)}
    except (checker.ValidationError, shape_inference.InferenceError) as error:
        faults.append(" ".join(str(error).split()))
    outputs = [name for node in model.graph.node for name in node.output if name]
    ranked = sum(name in values and values[name].HasField("shape") for name in outputs)
    opened = load_faults(path, model, root) if load and not faults else None
    faults += opened or []
    foreign = Counter(f"{n.domain}.{n.op_type}" for n in nodes_of(model.graph) if n.domain not in STANDARD)
    columns = [
        " ".join(f"{entry.domain or 'onnx'}:{entry.version}" for entry in model.opset_import),
        f"{len(model.graph.node)}",
        f"{len(model.graph.initializer)}",
        f"{len(external)}",
        f"{ranked / max(1, len(outputs)):.0%}",
        " ".join(f"{name}×{n}" for name, n in sorted(foreign.items())) or "–",
    ]
    if load:
        columns.append("–" if opened is None else "fault" if opened else "ok")
    return columns, faults


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--load", action="store_true")
    args = parser.parse_args()
    graphs = []
    for given in args.paths:
        found = sorted(given.rglob("*.onnx")) if given.is_dir() else [given] if given.is_file() else []
        if not found:
            sys.exit(f"{given}: no .onnx file")
        graphs += found
    head = ["graph", "opsets", "nodes", "init", "ext", "ranks", "foreign operators", *(["ORT"] if args.load else [])]
    table, faulty = [head], []
    for path in graphs:
        columns, faults = check(path, args.root, args.load)
        table.append([("✗ " if faults else "  ") + str(path), *columns])
        faulty += [(path, fault) for fault in faults]
    widths = [max(len(row[i]) for row in table if i < len(row)) for i in range(len(head))]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    for path, fault in faulty:
        print(f"{path}: {fault}", file=sys.stderr)
    print(f"{len(graphs)} graphs, {len({path for path, _ in faulty})} with faults")
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
