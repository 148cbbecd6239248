//! A checkpoint's component → an ONNX graph.
