//! ONNX Runtime's errors as one sentence, and the check for NaN and infinity.

use ndarray::Dimension as _;

use crate::{
    error::{Error, Result},
    tensor::Tensor,
};

/// Converts an ONNX Runtime error: prefixes the network's name, removes source lines and C++ signatures.
pub(super) fn explain<R>(network: &str, error: &ort::Error<R>) -> Error {
    Error::failed(sentence(error.message())).at(network)
}

/// Rewrites a message of ONNX Runtime without C++ details, with advice for known causes.
pub(super) fn sentence(message: &str) -> String {
    let clean = without_noise(message);
    if let Some(text) = gpu_failure(&clean) {
        return text;
    }
    let lower = clean.to_lowercase();
    let exhausted =
        ["failed to allocate", "bad_alloc", "out of memory", "cudnn_status_alloc_failed", "available memory of"];
    if exhausted.iter().any(|sign| lower.contains(sign)) {
        let node = between(message, "Name:'", "'").map(|node| format!(" at node {node}")).unwrap_or_default();
        let size = between(&format!("{clean} "), "buffer of size ", " ").and_then(|n| n.parse::<u64>().ok());
        let amount = |n: u64| match n {
            0..1_000_000_000 => format!(" ({} MB more needed)", n.div_ceil(1_000_000)),
            _ => format!(" ({:.1} GB more needed)", n as f64 / 1e9),
        };
        let wanted = size.map(amount).unwrap_or_default();
        return format!("out of memory{node}{wanted}; use a smaller size or --tile, or set --memory-limit");
    }
    if let Some((_, why)) = clean.split_once(" failed:").filter(|(load, _)| load.starts_with("Load model from ")) {
        return format!("is not a readable ONNX graph ({why}); export or download it again");
    }
    if let Some((before, _)) = clean.split_once(": cannot open shared object file") {
        let library = before.rsplit(' ').next().unwrap_or(before);
        let driver = library.starts_with("libcuda.so");
        let advice =
            if driver { "install NVIDIA's driver" } else { "scripts/setup --cuda installs NVIDIA's libraries" };
        return format!("the library {library} is missing; {advice}");
    }
    match (between(&clean, "Name:'", "' Status Message: "), clean.split_once("' Status Message: ")) {
        (Some(node), Some((_, what))) => format!("node {node}: {}", what.trim()),
        _ => clean,
    }
}

/// A failure of CUDA or of its libraries, as ONNX Runtime reports it: `CUDA failure 100: text ; GPU=0 ; hostname=… ; file=… ; line=…`,
/// `CUDA error cudaErrorName:text`. Without memory, it is reported like that of the host.
fn gpu_failure(clean: &str) -> Option<String> {
    const NO_SUCH_GPU: &str = "there is no GPU with this number; `crescendo doctor` lists them";
    const LIBRARIES: [(&str, &str); 5] = [
        ("CUDA failure ", "CUDA"),
        ("CUDA error ", "CUDA"),
        ("CUBLAS failure ", "cuBLAS"),
        ("CUDNN failure ", "cuDNN"),
        ("CUDNN_FE failure ", "cuDNN"),
    ];
    if clean.contains("Invalid device ID: ") {
        return Some(NO_SUCH_GPU.into());
    }
    let (library, rest) = LIBRARIES.iter().find_map(|(sign, name)| Some((name, clean.split_once(sign)?.1)))?;
    let (_, what) = rest.split(" ; GPU=").next()?.split_once(':')?;
    let what = what.trim();
    // The text is CUDA's and does not change.
    let advice = match what {
        "out of memory" => return None,
        "no CUDA-capable device is detected" => "check nvidia-smi and CUDA_VISIBLE_DEVICES",
        "invalid device ordinal" => return Some(NO_SUCH_GPU.into()),
        "CUDA driver version is insufficient for CUDA runtime version" => "install a newer driver of NVIDIA",
        "no kernel image is available for execution on the device" => "this GPU is too old for ONNX Runtime",
        _ => "run it again; if it repeats, `dmesg` and nvidia-smi tell more about the GPU",
    };
    let node = between(clean, "Name:'", "'").map(|node| format!("node {node}: ")).unwrap_or_default();
    Some(format!("{node}{library}: {what}; {advice}"))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

/// Removes `file.cc:123 signature(args) [with T = …]`, error codes and line breaks.
fn without_noise(message: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    let mut rest = message;
    while !rest.trim_start().is_empty() {
        rest = rest.trim_start();
        let (word, tail) = rest.split_at(rest.find(char::is_whitespace).unwrap_or(rest.len()));
        if is_source_line(word) {
            rest = after_signature(tail.trim_start());
        } else {
            words.push(word);
            rest = tail;
        }
    }
    let text = words.join(" ");
    // `[ONNXRuntimeError] : 1 : FAIL : what happened`
    let text = text.strip_prefix("[ONNXRuntimeError] : ").and_then(|t| t.splitn(3, " : ").nth(2)).unwrap_or(&text);
    text.trim_end_matches(['.', ' ', ':']).to_owned()
}

/// `/a/b/reshape_helper.h:91`
fn is_source_line(word: &str) -> bool {
    let Some((file, line)) = word.trim_start_matches(['(', '[']).rsplit_once(':') else { return false };
    let source = [".h", ".hpp", ".cc", ".cpp", ".cu", ".cuh"].iter().any(|suffix| file.ends_with(suffix));
    source && !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the text after `ret ns::f(args) const [with T = x]`. Without a parenthesis, the function name is one word.
fn after_signature(text: &str) -> &str {
    let first = text.find(char::is_whitespace).unwrap_or(text.len());
    let open = text.find('(').filter(|&open| open < first || text[..open].contains("::"));
    let Some(open) = open else { return &text[first..] };
    let Some(close) = matching(&text[open..], '(', ')') else { return text };
    let mut rest = &text[open + close + 1..];
    rest = rest.strip_prefix(" const").unwrap_or(rest);
    let template = rest.trim_start();
    if template.starts_with("[with ") {
        rest = matching(template, '[', ']').map_or(rest, |end| &template[end + 1..]);
    }
    rest
}

/// Index of the bracket that closes the first opening bracket in `text`.
fn matching(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0_i32;
    text.char_indices().find_map(|(at, c)| {
        depth += i32::from(c == open) - i32::from(c == close);
        (depth == 0).then_some(at)
    })
}

/// Checks that all values are finite. `name` starts the message: `transformer, step 3`.
///
/// # Errors
/// `t` contains NaN or infinity; the message contains the first position.
pub fn finite(name: &str, t: &Tensor) -> Result<()> {
    let Tensor::F32(values) = t else { return Ok(()) };
    // NaN or infinity times zero is NaN, so the sum detects it. Much faster than a check of every value.
    let suspicious = match values.as_slice_memory_order() {
        Some(all) => all.chunks(4096).any(|chunk| chunk.iter().map(|v| v * 0.0).sum::<f32>() != 0.0),
        None => true,
    };
    if !suspicious {
        return Ok(());
    }
    let count = values.iter().filter(|v| !v.is_finite()).count();
    let Some((at, value)) = values.indexed_iter().find(|(_, v)| !v.is_finite()) else { return Ok(()) };
    Err(Error::non_finite(format!(
        "{name}: {count} of {} values are not finite (first {value} at {:?})",
        values.len(),
        at.slice(),
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use ndarray::{ArrayD, IxDyn};

    /// Messages of ONNX Runtime 1.31.1.
    #[test]
    fn messages_become_one_sentence() {
        let run = "Non-zero status code returned while running";
        let core = "/onnxruntime_src/onnxruntime/core";
        let table = [
            (
                format!(
                    "{run} MatMul node. Name:'/blk/mm' Status Message: matmul_helper.h:59 Compute MatMul dimension mismatch"
                ),
                "node /blk/mm: MatMul dimension mismatch",
            ),
            (
                format!(
                    "{run} Add node. Name:'/blk/add' Status Message: {core}/providers/cpu/math/element_wise_ops.h:563 void \
                      onnxruntime::BroadcastIterator::Init(ptrdiff_t, ptrdiff_t) axis == 1 || axis == largest was false. Attempting \
                      to broadcast an axis by a dimension other than 1. 3 by 5\n"
                ),
                "node /blk/add: axis == 1 || axis == largest was false. Attempting to broadcast an axis by a dimension other than 1. 3 by 5",
            ),
            (
                format!(
                    "{run} Expand node. Name:'/blk/ex' Status Message: {core}/framework/bfc_arena.cc:360 void* \
                      onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate memory for \
                      requested buffer of size 68719476736\n"
                ),
                "out of memory at node /blk/ex (68.7 GB more needed); use a smaller size or --tile, or set --memory-limit",
            ),
            (
                format!(
                    "{core}/x.cc:12 T onnxruntime::F<T>::G(std::function<void(int)>) const [with T = float; U = int[2]] It is so."
                ),
                "It is so",
            ),
            (
                "[ONNXRuntimeError] : 1 : FAIL : Failed to load library /a/x.so with error: libcublasLt.so.13: cannot open shared \
                 object file: No such file or directory"
                    .into(),
                "the library libcublasLt.so.13 is missing; scripts/setup --cuda installs NVIDIA's libraries",
            ),
            ("std::bad_alloc".into(), "out of memory; use a smaller size or --tile, or set --memory-limit"),
            (
                "Node (/blk/mm) Op (MatMul) [ShapeInferenceError] Incompatible dimensions".into(),
                "Node (/blk/mm) Op (MatMul) [ShapeInferenceError] Incompatible dimensions",
            ),
            (
                format!(
                    "{run} Conv node. Name:'/cv' Status Message: Input channels C is not equal to kernel channels * group. C: 3"
                ),
                "node /cv: Input channels C is not equal to kernel channels * group. C: 3",
            ),
        ];
        check(&table);
    }

    /// Messages of ONNX Runtime 1.31.1 on CUDA.
    #[test]
    fn failures_of_gpus_become_one_sentence() {
        let place = "; GPU=0 ; hostname=vm ; file=/onnxruntime_src/onnxruntime/core/providers/cuda/nn/conv.cc ; line=4 ; expr=f(a, b); ";
        let option = "Failed to parse provider option \"device_id\":";
        let at = |what: &str| {
            format!("Non-zero status code returned while running Conv node. Name:'/c' Status Message: {what} {place}")
        };
        let again = "run it again; if it repeats, `dmesg` and nvidia-smi tell more about the GPU";
        let table = [
            (
                format!("{option} CUDA failure 100: no CUDA-capable device is detected {place}"),
                "CUDA: no CUDA-capable device is detected; check nvidia-smi and CUDA_VISIBLE_DEVICES".to_owned(),
            ),
            (
                format!("{option} Invalid device ID: 3, must be between 0 (inclusive) and 1 (exclusive)"),
                "there is no GPU with this number; `crescendo doctor` lists them".into(),
            ),
            (
                at("CUDA error cudaErrorLaunchFailure:unspecified launch failure"),
                format!("node /c: CUDA: unspecified launch failure; {again}"),
            ),
            (
                at("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED"),
                format!("node /c: cuDNN: CUDNN_STATUS_EXECUTION_FAILED; {again}"),
            ),
            (
                at("CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED"),
                format!("node /c: cuDNN: CUDNN_BACKEND_API_FAILED; {again}"),
            ),
            (
                at("CUDA failure 2: out of memory"),
                "out of memory at node /c; use a smaller size or --tile, or set --memory-limit".into(),
            ),
            (
                at(
                    "[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen \
                    failed for libcudnn.so: libcudnn.so: cannot open shared object file: No such file or directory",
                ),
                "the library libcudnn.so is missing; scripts/setup --cuda installs NVIDIA's libraries".into(),
            ),
        ];
        check(&table);
    }

    /// Checks the sentence of each message.
    fn check(table: &[(String, impl AsRef<str>)]) {
        let wrong = table.iter().filter(|(raw, want)| sentence(raw) != want.as_ref());
        let wrong: Vec<_> = wrong.map(|(raw, want)| (want.as_ref(), sentence(raw))).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn non_finite_values_are_reported() {
        let mut a = ArrayD::<f32>::from_elem(IxDyn(&[2, 3, 4000]), 1e38);
        finite("x", &a.clone().into()).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            a[[1, 2, 7]] = bad;
            let message = finite("unet, step 3", &a.clone().into()).unwrap_err().to_string();
            assert!(
                message
                    .starts_with(&format!("unet, step 3: 1 of 24000 values are not finite (first {bad} at [1, 2, 7])")),
                "{message}"
            );
        }
        let turned = a.clone().reversed_axes().slice_move(ndarray::s![1..;2, .., ..]).into_dyn();
        assert!(finite("x", &turned.into()).is_err());
    }
}
