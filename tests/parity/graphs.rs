//! Properties of the graphs: names, operators, opsets. Exported files give the outputs of graphs in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crescendo::{
    compile::{self, Subgraph},
    model::{HiddenStates, Padding},
    onnx::{Model, Provider, Target, proto::NodeProto},
    runtime::Load,
    tensor::{DType, Tensor},
};
use ndarray::{ArrayD, IxDyn};

use crate::table::{TARGETS, Table, engine, goldens, output, relative_error, run};

const CUDA: Target = Target { provider: Provider::Cuda, compute: DType::BF16 };

fn component(name: &str, class: &str, part: Subgraph, target: Target) -> Model {
    compile::component(&goldens("flux1-dev/model").join(name), class, part, None, target).unwrap()
}

fn of(model: &str, name: &str, class: &str, part: Subgraph, target: Target) -> Model {
    compile::component(&goldens(model).join(name), class, part, None, target).unwrap()
}

/// A language model of each kind, the transformers of Z-Image, FLUX.2 and Qwen-Image, FLUX.2's VAE, every network of FLUX.1,
/// an upscaler of each kind, and two versions of RIFE.
fn all(target: Target) -> Vec<(&'static str, Model)> {
    let states = |hidden, pads| Subgraph::HiddenStates(HiddenStates { hidden, pads });
    let upscaler = |file| compile::upscaler(&goldens("esrgan").join(file), target).unwrap().model;
    let rife = |version, scale| {
        let path = goldens("rife").join(version).join("flownet.pkl");
        compile::interpolator(&path, scale, target).unwrap().model
    };
    let wan = |name: &str, class, part| {
        compile::component(&goldens("wan/model").join(name), class, part, None, target).unwrap()
    };
    vec![
        ("language_model", of("z-image/model", "text_encoder", "Qwen3Model", states(&[-2], Padding::None), target)),
        (
            "language_model-after",
            of("flux2-klein/model", "text_encoder", "Qwen3ForCausalLM", states(&[9, 18, 27], Padding::After), target),
        ),
        (
            "language_model-before",
            of("mistral", "old", "Mistral3ForConditionalGeneration", states(&[1, 2, 3], Padding::Before), target),
        ),
        ("z_image", of("z-image/model", "transformer", "ZImageTransformer2DModel", Subgraph::Full, target)),
        ("flux2", of("flux2-dev/model", "transformer", "Flux2Transformer2DModel", Subgraph::Full, target)),
        ("flux2_vae_decoder", of("flux2-klein/model", "vae", "AutoencoderKLFlux2", Subgraph::Decoder, target)),
        ("flux2_vae_encoder", of("flux2-klein/model", "vae", "AutoencoderKLFlux2", Subgraph::Encoder, target)),
        ("qwen_image", of("qwen-image/model", "transformer", "QwenImageTransformer2DModel", Subgraph::Full, target)),
        ("wan_transformer", wan("transformer", "WanTransformer3DModel", Subgraph::Full)),
        ("wan_text_encoder", wan("text_encoder", "UMT5EncoderModel", Subgraph::Full)),
        ("wan_vae_decoder", wan("vae", "AutoencoderKLWan", Subgraph::Decoder)),
        ("wan_vae_decoder.later", wan("vae", "AutoencoderKLWan", Subgraph::CachedDecoder)),
        ("wan_vae_encoder", wan("vae", "AutoencoderKLWan", Subgraph::Encoder)),
        ("wan_vae_encoder.later", wan("vae", "AutoencoderKLWan", Subgraph::CachedEncoder)),
        ("text_encoder", component("text_encoder", "CLIPTextModel", Subgraph::Full, target)),
        ("text_encoder_2", component("text_encoder_2", "T5EncoderModel", Subgraph::Full, target)),
        ("transformer", component("transformer", "FluxTransformer2DModel", Subgraph::Full, target)),
        ("vae_decoder", component("vae", "AutoencoderKL", Subgraph::Decoder, target)),
        ("vae_encoder", component("vae", "AutoencoderKL", Subgraph::Encoder, target)),
        ("rrdb-x4", upscaler("rrdb-x4.pth")),
        ("rrdb-x1", upscaler("rrdb-x1.safetensors")),
        ("plus-x4", upscaler("plus-x4-old.pth")),
        ("compact-x2", upscaler("compact-x2-f16.pth")),
        ("rife-4.6", rife("4.6", 1.0)),
        ("rife-4.14.lite", rife("4.14.lite", 1.0)),
        ("rife-4.22.lite-half", rife("4.22.lite", 0.5)),
        ("rife-4.22.lite-double", rife("4.22.lite", 2.0)),
        ("rife-4.25", rife("4.25", 1.0)),
    ]
}

fn nodes(model: &Model) -> &[NodeProto] {
    model.proto.graph.as_ref().map_or(&[], |g| &g.node)
}

fn count_operators(model: &Model) -> BTreeMap<&str, usize> {
    nodes(model).iter().fold(BTreeMap::new(), |mut counts, n| {
        *counts.entry(n.op_type.as_str()).or_default() += 1;
        counts
    })
}

#[test]
fn nodes_are_named_after_their_weights() {
    let rows: [(&str, Model, &[&str]); 5] = [
        (
            "transformer",
            component("transformer", "FluxTransformer2DModel", Subgraph::Full, Target::CPU),
            &[
                "/x_embedder",
                "/transformer_blocks.0/attn/to_q",
                "/transformer_blocks.1/attn/to_out.0",
                "/rope/Expand",
                "/transformer_blocks.0/norm2_context/LayerNormalization",
                "/transformer_blocks.0/attn/MultiHeadAttention",
                "/transformer_blocks.0/attn/to_q/Add",
                "/single_transformer_blocks.0/attn/MultiHeadAttention",
                "/transformer_blocks.0/attn/norm_added_k/RMSNormalization",
                "/transformer_blocks.1/ff_context/net.0/proj",
                "/single_transformer_blocks.2/proj_mlp",
                "/time_text_embed/guidance_embedder/linear_2",
                "/norm_out/linear",
                "/velocity",
            ],
        ),
        (
            "wan later decoder",
            compile::component(
                &goldens("wan/model/vae"),
                "AutoencoderKLWan",
                Subgraph::CachedDecoder,
                None,
                Target::CPU,
            )
            .unwrap(),
            &[
                "/post_quant_conv",
                "/decoder/mid_block/attentions.0/to_qkv",
                "/decoder/up_blocks.0/upsamplers.0/time_conv",
                "/decoder/up_blocks.1/resnets.0/conv1_1",
                "/decoder/up_blocks.3/resnets.2/norm1/ReduceMean_3",
                "/picture",
                "/next.0",
            ],
        ),
        (
            "clip",
            component("text_encoder", "CLIPTextModel", Subgraph::Full, Target::CPU),
            &[
                "/text_model/encoder/layers.0/self_attn/q_proj",
                "/text_model/embeddings/token_embedding/Gather",
                "/text_model/encoder/layers.1/layer_norm2/LayerNormalization",
                "/pooled",
            ],
        ),
        (
            "rrdb",
            compile::upscaler(&goldens("esrgan/rrdb-x4.pth"), Target::CPU).unwrap().model,
            &["/body.1/rdb3/conv5", "/conv_first", "/enlarged"],
        ),
        (
            "rife",
            compile::interpolator(&goldens("rife/4.22.lite/flownet.pkl"), 1.0, Target::CPU).unwrap().model,
            &["/block3/convblock.7/conv", "/encode/cnn0", "/encode/cnn0_1", "/block0/lastconv.0"],
        ),
    ];
    let mut table = Table::default();
    for (graph, model, wanted) in &rows {
        let names: Vec<&str> = nodes(model).iter().map(|n| n.name.as_str()).collect();
        let unique: BTreeSet<&str> = names.iter().copied().collect();
        table.row(unique.len() == names.len(), format!("{graph}: {} names, all different", names.len()));
        for name in *wanted {
            table.row(unique.contains(name), format!("{graph} {name}"));
        }
    }
    table.finish();
}

/// A graph, its target, and its number of nodes per operator.
type Wanted = (&'static str, Target, &'static [(&'static str, usize)]);

/// Each target has the operators that were measured as fastest, without duplicate nodes.
#[test]
fn operators_match_the_target() {
    const PORTABLE: Target = TARGETS[1].1;
    // The tiny transformer has 2 double and 3 single blocks, the text encoders have 2.
    let rows: &[Wanted] = &[
        (
            "transformer",
            Target::CPU,
            &[
                ("MultiHeadAttention", 5),
                ("RotaryEmbedding", 10),
                ("RMSNormalization", 14),
                ("Expand", 2),
                ("Shape", 3),
                ("MatMul", 0),
                ("Transpose", 0),
                ("Softmax", 0),
                ("Gelu", 7),
                ("Erf", 0),
            ],
        ),
        ("transformer", CUDA, &[("Attention", 5), ("MultiHeadAttention", 0), ("RotaryEmbedding", 10), ("Expand", 2)]),
        ("transformer", PORTABLE, &[("FusedMatMul", 0), ("MultiHeadAttention", 0), ("Softmax", 5), ("Expand", 0)]),
        // Two of three layers. Queries and keys are rotated, keys and values repeated.
        (
            "language_model",
            Target::CPU,
            &[
                ("MultiHeadAttention", 2),
                ("RotaryEmbedding", 4),
                ("RMSNormalization", 8),
                ("Softmax", 0),
                ("Range", 1),
                ("Cos", 1),
                ("Expand", 2),
            ],
        ),
        ("language_model", CUDA, &[("Attention", 2), ("Concat", 2), ("RMSNormalization", 8)]),
        // The text before its last token, then the last token with the padding.
        ("language_model-after", Target::CPU, &[("MultiHeadAttention", 54), ("Softmax", 0)]),
        ("language_model-before", Target::CPU, &[("MultiHeadAttention", 3), ("Softmax", 0)]),
        // Two refiners of two blocks, and two layers.
        (
            "z_image",
            Target::CPU,
            &[("MultiHeadAttention", 6), ("RotaryEmbedding", 12), ("LayerNormalization", 1), ("Softmax", 0)],
        ),
        // One double block and two single blocks. Three shared modulations and the final one.
        (
            "flux2",
            Target::CPU,
            &[
                ("MultiHeadAttention", 3),
                ("RotaryEmbedding", 6),
                ("RMSNormalization", 8),
                ("LayerNormalization", 7),
                ("FusedMatMul", 27),
                ("Add", 22),
                ("Split", 10),
                ("Gelu", 0),
            ],
        ),
        // Two double blocks. The second one omits the operators after its text stream.
        ("qwen_image", Target::CPU, &[("MultiHeadAttention", 2), ("Gelu", 3), ("LayerNormalization", 8)]),
        ("text_encoder", Target::CPU, &[("MultiHeadAttention", 2), ("Softmax", 0), ("Range", 0)]),
        ("text_encoder", PORTABLE, &[("Softmax", 2), ("Range", 1)]),
        (
            "vae_decoder",
            Target::CPU,
            &[("GroupNormalization", 0), ("InstanceNormalization", 0), ("MultiHeadAttention", 1)],
        ),
        (
            "wan_transformer",
            Target::CPU,
            &[("MultiHeadAttention", 4), ("RotaryEmbedding", 4), ("RMSNormalization", 8), ("Expand", 2), ("Cast", 69)],
        ),
        ("wan_vae_decoder.later", Target::CPU, &[("MultiHeadAttention", 1), ("Resize", 10)]),
        ("rife-4.25", Target::CPU, &[("GridSample", 0), ("Shape", 3)]),
        ("rife-4.25", PORTABLE, &[("Warp", 0)]),
    ];
    let mut table = Table::default();
    for (graph, target, wanted) in rows {
        let all = all(*target);
        let model = &all.iter().find(|(name, _)| name == graph).unwrap().1;
        let census = count_operators(model);
        for (op, count) in *wanted {
            let found = census.get(op).copied().unwrap_or(0);
            table.row(found == *count, format!("{graph} {:?}: {found} {op}, wanted {count}", target.provider));
        }
    }
    for (name, model) in all(PORTABLE) {
        let domains: Vec<&str> = nodes(&model).iter().map(|n| n.domain.as_str()).filter(|d| !d.is_empty()).collect();
        table.row(domains.is_empty(), format!("{name} portable: foreign operators {domains:?}"));
    }
    for target in [Target::CPU, CUDA, PORTABLE] {
        for (name, model) in all(target) {
            let imported: BTreeSet<&str> = model.proto.opset_import.iter().map(|o| o.domain.as_str()).collect();
            let used: BTreeSet<&str> = nodes(&model).iter().map(|n| n.domain.as_str()).collect();
            table.row(imported == used, format!("{name} {:?}: domains {imported:?} for {used:?}", target.provider));
        }
    }
    table.finish();
}

/// Every value has a reader and every input has a producer.
#[test]
fn graphs_have_no_unused_nodes() {
    let mut table = Table::default();
    for target in [Target::CPU, CUDA, TARGETS[1].1] {
        for (name, model) in all(target) {
            let graph = model.proto.graph.as_ref().unwrap();
            let read: BTreeSet<&str> = graph.node.iter().flat_map(|n| &n.input).map(String::as_str).collect();
            let outputs: BTreeSet<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
            let made = graph.node.iter().flat_map(|n| n.output.iter().map(move |o| (n, o.as_str())));
            let unused: Vec<&str> = made
                .filter(|(_, o)| !read.contains(o) && !outputs.contains(o))
                // A Split always has all its outputs.
                .filter(|(n, _)| n.op_type != "Split")
                .map(|(_, o)| o)
                .collect();
            let initializers = graph.initializer.iter().map(|t| t.name.as_str()).filter(|t| !read.contains(t));
            let unused: Vec<&str> = unused.into_iter().chain(initializers).collect();
            table.row(unused.is_empty(), format!("{name} {:?}: unused {unused:?}", target.provider));
        }
    }
    table.finish();
}

fn export_all(folder: &Path, target: Target) -> Vec<PathBuf> {
    let export = compile::export(folder, true).unwrap();
    all(target).iter().map(|(name, model)| export.graph(name, name, model).unwrap().0).collect()
}

/// Inputs of a network: every symbolic dimension is 2, every value 0.5.
fn inputs(net: &crescendo::runtime::Network) -> Vec<(String, Tensor)> {
    let extent = |d: (&Option<usize>, &String)| {
        let symbols = |text: &str| {
            text.split(" + ").map(|term| term.split('*').map(|f| f.parse().unwrap_or(2)).product::<usize>()).sum()
        };
        d.0.unwrap_or_else(|| symbols(d.1))
    };
    let make = |s: &crescendo::runtime::Signature| {
        let shape: Vec<usize> = s.shape.iter().zip(&s.dims).map(extent).collect();
        let n = shape.iter().product::<usize>();
        let tensor = if s.dtype == DType::I64 {
            ArrayD::from_elem(IxDyn(&shape), 1).into()
        } else {
            ArrayD::from_shape_vec(IxDyn(&shape), (0..n).map(|i| (i as f32 * 0.7).sin() * 0.5 + 0.5).collect())
                .unwrap()
                .into()
        };
        (s.name.clone(), tensor)
    };
    net.inputs().iter().map(make).collect()
}

#[test]
fn exported_graphs_equal_graphs_in_memory() {
    let mut table = Table::default();
    for (on, target) in TARGETS {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let paths = export_all(folder.path(), target);
        for ((name, model), path) in all(target).iter().zip(&paths) {
            let mut memory = engine().load(name, &model.bytes, &Load::default()).unwrap();
            let inputs = inputs(&memory);
            let inputs: Vec<(&str, Tensor)> = inputs.iter().map(|(n, t)| (n.as_str(), t.clone())).collect();
            let wanted = run(&mut memory, &inputs).unwrap();
            let got = engine()
                .load_file(name, path, &Load::default())
                .map_err(|e| e.to_string())
                .and_then(|mut net| run(&mut net, &inputs));
            for (out, want) in &wanted {
                let error = output(&got, out).map(|got| relative_error(&got, want));
                table.row(error == Ok(0.0), format!("{on} {name} {out} {:?}: {error:?}", want.shape()));
            }
        }
    }
    table.finish();
}

/// Writes every graph for `scripts/reference/check_onnx.py`: `GRAPHS=folder cargo test --test parity -- --ignored graphs`.
#[test]
#[ignore = "writes to the folder that GRAPHS names"]
fn write_graphs() {
    let folder = std::env::var_os("GRAPHS").expect("GRAPHS must name a folder on this file system");
    for (on, target) in [("cpu", Target::CPU), ("cuda", CUDA), ("portable", TARGETS[1].1)] {
        export_all(&Path::new(&folder).join(on), target);
    }
}
