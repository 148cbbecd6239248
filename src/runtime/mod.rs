//! ONNX Runtime: sessions, providers, memory; the sole user of `ort`.
