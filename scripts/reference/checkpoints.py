#!/usr/bin/env python3
"""Write tiny random checkpoints in the layout of the released ones.

    checkpoints.py [NAME...]

Sizes are odd on purpose, so that nothing can be taken for granted that a config or a shape tells: text width, inner
width and heads × head size all differ, the VAE has 4 latent channels and groups of 4, every level another width.
"""

import argparse
import shutil

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from tiny import GOLDENS, ROOT, as_clip_release, clip_tokenizer, save_checkpoint, size_of, t5_tokenizer


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
    parts = dict(
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
        pipeline=FluxPipeline, parts=parts, shard="200KB", bpe={"tokenizer": (vocab, merges)},
        names={"tokenizer_2": "T5TokenizerFast"},
    )  # fmt: skip


def flux1(folder, dtype, seed, **form):
    save_checkpoint(folder, build_flux1(**form), dtype, seed)
    shutil.copy(folder / "tokenizer/tokenizer.json", folder.parent / "clip_tokenizer.json")
    as_clip_release(folder / "tokenizer")


def flux1_dev():
    folder = GOLDENS / "flux1-dev/model"
    scheduler = flow_scheduler(shift=3.0, use_dynamic_shifting=True)
    flux1(folder, torch.float32, 0, guidance=True, scheduler=scheduler, layers=2, single_layers=3)
    return folder


def flux1_schnell():
    """bf16 files, as released."""
    folder = GOLDENS / "flux1-schnell/model"
    scheduler = flow_scheduler(shift=1.0, use_dynamic_shifting=False)
    flux1(folder, torch.bfloat16, 100, guidance=False, scheduler=scheduler, layers=1, single_layers=2)
    (folder.parent / "clip_tokenizer.json").unlink()
    return folder


def flux1_demo():
    folder = ROOT / "models/demo/flux1-tiny"
    readme = folder / "README.md"
    kept = readme.read_text() if readme.exists() else None
    scheduler = flow_scheduler(shift=3.0, use_dynamic_shifting=True)
    flux1(folder, torch.bfloat16, 0, guidance=True, scheduler=scheduler, layers=2, single_layers=2)
    (folder.parent / "clip_tokenizer.json").unlink()
    if kept:
        readme.write_text(kept)
    return folder


CHECKPOINTS = {"flux1-dev": flux1_dev, "flux1-schnell": flux1_schnell, "flux1-tiny": flux1_demo}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CHECKPOINTS))
    args = parser.parse_args()
    for name in args.names or CHECKPOINTS:
        folder = CHECKPOINTS[name]()
        print(f"{name:14} {size_of(folder) / 1e3:7.0f} kB  {folder.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
