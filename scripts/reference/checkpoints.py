#!/usr/bin/env python3
"""Writes tiny random checkpoints in the layout of the released ones.

    checkpoints.py [NAME...]

The sizes are unusual on purpose: a reader must take each size from the config or from a shape. The text hidden size, the inner
hidden size and heads × head_dim all differ. The VAE has 4 latent channels, norm groups of 4 and a different channel count at each
resolution.
"""

import argparse
import shutil

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tiny import (
    GOLDENS,
    QWEN_IMAGE_PREFIX,
    ROOT,
    as_clip_release,
    clip_tokenizer,
    qwen_tokenizer,
    rewrite_json,
    save_checkpoint,
    size_of,
    t5_tokenizer,
)


def flow_scheduler(**config):
    base = dict(
        num_train_timesteps=1000, base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096
    )
    return FlowMatchEulerDiscreteScheduler(**(base | config))


def flux_vae():
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8, 12, 16, 16], layers_per_block=2, latent_channels=4, norm_num_groups=4, sample_size=1024,
        scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip


def build_flux1(guidance, scheduler, layers, single_layers):
    clip, vocab, merges = clip_tokenizer()
    t5 = t5_tokenizer()
    components = dict(
        scheduler=scheduler,
        vae=flux_vae(),
        text_encoder=CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(clip), hidden_size=40, intermediate_size=72, num_hidden_layers=2, num_attention_heads=2,
                max_position_embeddings=77, hidden_act="quick_gelu", projection_dim=40, bos_token_id=0, eos_token_id=2,
            )
        ),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(
            T5Config(
                vocab_size=len(t5) + 6, d_model=24, d_kv=8, d_ff=56, num_layers=2, num_heads=4,
                feed_forward_proj="gated-gelu", dropout_rate=0.0,
            )
        ),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(
            in_channels=16, num_layers=layers, num_single_layers=single_layers, attention_head_dim=16,
            num_attention_heads=2, joint_attention_dim=24, pooled_projection_dim=40, guidance_embeds=guidance,
            axes_dims_rope=(4, 6, 6),
        ),
    )  # fmt: skip
    return dict(
        pipeline=FluxPipeline, components=components, shard="200KB", bpe={"tokenizer": (vocab, merges)},
        names={"tokenizer_2": "T5TokenizerFast"},
    )  # fmt: skip


def flux1(folder, dtype, seed, **options):
    save_checkpoint(folder, build_flux1(**options), dtype, seed)
    shutil.copy(folder / "tokenizer/tokenizer.json", folder.parent / "clip_tokenizer.json")
    as_clip_release(folder / "tokenizer")


def flux1_dev():
    folder = GOLDENS / "flux1-dev/model"
    scheduler = flow_scheduler(shift=3.0, use_dynamic_shifting=True)
    flux1(folder, torch.float32, 0, guidance=True, scheduler=scheduler, layers=2, single_layers=3)
    return folder


def flux1_schnell():
    """Writes bf16 files, like the release."""
    folder = GOLDENS / "flux1-schnell/model"
    scheduler = flow_scheduler(shift=1.0, use_dynamic_shifting=False)
    flux1(folder, torch.bfloat16, 100, guidance=False, scheduler=scheduler, layers=1, single_layers=2)
    (folder.parent / "clip_tokenizer.json").unlink()
    return folder


def flux1_demo():
    folder = ROOT / "models/demo/flux1-tiny"
    readme = folder / "README.md"
    readme_text = readme.read_text() if readme.exists() else None
    scheduler = flow_scheduler(shift=3.0, use_dynamic_shifting=True)
    flux1(folder, torch.bfloat16, 0, guidance=True, scheduler=scheduler, layers=1, single_layers=2)
    (folder.parent / "clip_tokenizer.json").unlink()
    # `generate` warns of random weights. diffusers ignores keys that begin with an underscore.
    rewrite_json(folder / "model_index.json", lambda index: dict(sorted((index | {"_random_weights": True}).items())))
    if readme_text:
        readme.write_text(readme_text)
    return folder


# ----------------------------------------------------------------------------------------- other families


def qwen3_config(vocab_size, layers, hidden):
    """heads × head_dim differs from the hidden size, as in Qwen3-4B."""
    return Qwen3Config(
        vocab_size=vocab_size, hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, max_position_embeddings=40960,
    )  # fmt: skip


def build_flux2_klein():
    tokenizer, vocab, merges = qwen_tokenizer()
    components = dict(
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=AutoencoderKLFlux2(
            block_out_channels=(8, 12, 16, 16), layers_per_block=2, latent_channels=4, norm_num_groups=4
        ),
        # The pipeline reads hidden states 9, 18 and 27.
        text_encoder=Qwen3ForCausalLM(qwen3_config(len(tokenizer) + 5, layers=28, hidden=16)),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16, num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=48, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=False,
        ),
    )  # fmt: skip
    return dict(
        pipeline=Flux2KleinPipeline, components=components, config=dict(is_distilled=True), shard="5GB",
        bpe={"tokenizer": (vocab, merges)}, names={"tokenizer": "Qwen2TokenizerFast"},
    )  # fmt: skip


def build_wan():
    tokenizer = t5_tokenizer()
    components = dict(
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, num_train_timesteps=1000,
            solver_order=2, solver_type="bh2", final_sigmas_type="zero",
        ),
        vae=AutoencoderKLWan(base_dim=2),
        text_encoder=UMT5EncoderModel(
            UMT5Config(
                vocab_size=len(tokenizer) + 6, d_model=24, d_kv=8, d_ff=48, num_layers=3, num_heads=4,
                feed_forward_proj="gated-gelu", dropout_rate=0.0,
            )
        ),
        tokenizer=tokenizer,
        transformer=WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=16, text_dim=24, ffn_dim=96, num_layers=2
        ),
    )  # fmt: skip
    return dict(pipeline=WanPipeline, components=components, shard="100KB", names={"tokenizer": "T5TokenizerFast"})


def build_z_image():
    tokenizer, vocab, merges = qwen_tokenizer()
    causal = Qwen3ForCausalLM(qwen3_config(len(tokenizer) + 5, layers=3, hidden=40))
    components = dict(
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=False),
        vae=flux_vae(),
        text_encoder=causal.model,
        tokenizer=tokenizer,
        transformer=ZImageTransformer2DModel(
            in_channels=4, dim=32, n_layers=2, n_refiner_layers=2, n_heads=2, n_kv_heads=2, cap_feat_dim=40,
            axes_dims=[4, 6, 6], axes_lens=[1536, 512, 512],
        ),
    )  # fmt: skip
    return dict(
        pipeline=ZImagePipeline, components=components, shard="200KB", bpe={"tokenizer": (vocab, merges)}, causal=causal
    )


def build_qwen_image():
    tokenizer, vocab, merges = qwen_tokenizer()
    assert len(tokenizer(QWEN_IMAGE_PREFIX).input_ids) == 34, "the template prefix must be 34 tokens"
    text = dict(
        vocab_size=len(tokenizer) + 5, hidden_size=48, intermediate_size=104, num_hidden_layers=3,
        num_attention_heads=3, num_key_value_heads=1, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
    )  # fmt: skip
    vision = dict(depth=1, hidden_size=16, intermediate_size=32, num_heads=2, out_hidden_size=48)
    components = dict(
        scheduler=flow_scheduler(
            shift=1.0, use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        vae=AutoencoderKLQwenImage(base_dim=2),
        text_encoder=Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision)),
        tokenizer=tokenizer,
        transformer=QwenImageTransformer2DModel(
            num_layers=2, attention_head_dim=16, num_attention_heads=2, joint_attention_dim=48, axes_dims_rope=(4, 6, 6)
        ),
    )  # fmt: skip
    return dict(pipeline=QwenImagePipeline, components=components, shard="100KB", bpe={"tokenizer": (vocab, merges)})


def family(name, build, dtype, seed):
    def write():
        save_checkpoint(GOLDENS / name / "model", build(), dtype, seed)
        return GOLDENS / name / "model"

    return write


CHECKPOINTS = {
    "flux1-dev": flux1_dev,
    "flux1-schnell": flux1_schnell,
    "flux1-tiny": flux1_demo,
    "flux2-klein": family("flux2-klein", build_flux2_klein, torch.bfloat16, 300),
    "wan": family("wan", build_wan, torch.bfloat16, 400),
    "z-image": family("z-image", build_z_image, torch.bfloat16, 500),
    "qwen-image": family("qwen-image", build_qwen_image, torch.bfloat16, 600),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CHECKPOINTS))
    args = parser.parse_args()
    for name in args.names or CHECKPOINTS:
        folder = CHECKPOINTS[name]()
        print(f"{name:14} {size_of(folder) / 1e3:7.0f} kB  {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
