"""What the released checkpoints are made of: configs, tensor names, shapes, dtypes, shards, totals.

Names and shapes come from the model classes on the meta device, so nothing here allocates a weight; `tensors` and `bytes`
are what the released index files and file sizes say, and are checked.
"""

import json
import math
import re
from dataclasses import dataclass, field

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3ForCausalLM, T5Config, T5EncoderModel

from tiny import release_config

BF16, F32 = torch.bfloat16, torch.float32
SAFETENSORS_NAMES = {BF16: "BF16", F32: "F32", torch.int64: "I64"}


@dataclass
class Part:
    """One component's folder."""

    model: type
    config: object  # keyword arguments of a diffusers class, or a transformers configuration
    dtype: torch.dtype
    tensors: int
    bytes: int
    shards: int = 1
    shard_bytes: float = 1e10  # a file is closed when the next tensor would exceed this
    drop: str = r"(?!)"  # names that the released file does not hold: tied weights, buffers
    rename: list = field(default_factory=list)  # (pattern, replacement) on names
    listed: str | None = None  # the class in model_index.json, where it is another than the file's

    @property
    def stem(self):
        return "diffusion_pytorch_model" if self.model.__module__.startswith("diffusers") else "model"

    def build(self):
        with torch.device("meta"):
            return self.model(**self.config) if isinstance(self.config, dict) else self.model(self.config)

    def names_and_shapes(self):
        """[(name, dtype, shape)] in the model's order; the totals must be the released ones."""
        found = []
        for name, tensor in self.build().state_dict().items():
            if re.search(self.drop, name):
                continue
            for pattern, replacement in self.rename:
                name = re.sub(pattern, replacement, name)
            found.append((name, self.dtype if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape)))
        total = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in found)
        assert (len(found), total) == (self.tensors, self.bytes), (
            f"{self.model.__name__}: {len(found)} tensors of {total} bytes, the release has {self.tensors} of {self.bytes}"
        )
        return found

    def released_config(self):
        """config.json as the release has it, with transformers' keys of version 4."""
        if not isinstance(self.config, dict):
            config = release_config(json.loads(self.config.to_json_string(use_diff=False)))
            config.pop("torch_dtype", None)
            config |= {"architectures": [self.model.__name__], "torch_dtype": str(self.dtype).removeprefix("torch.")}
            return config
        config = {k: v for k, v in self.build().config.items() if not k.startswith("_")}
        return {"_class_name": self.model.__name__, "_diffusers_version": "0.30.0.dev0"} | config


@dataclass
class Release:
    pipeline: str
    parts: dict  # folder → Part
    scheduler: dict
    tokenizers: dict  # folder → class that model_index.json names
    scheduler_class: type = FlowMatchEulerDiscreteScheduler
    options: dict = field(default_factory=dict)  # of the pipeline, in model_index.json

    def model_index(self):
        index = {"_class_name": self.pipeline, "_diffusers_version": "0.30.0.dev0"} | self.options
        index["scheduler"] = ["diffusers", self.scheduler_class.__name__]
        for folder, part in self.parts.items():
            index[folder] = [part.model.__module__.split(".")[0], part.listed or part.model.__name__]
        return index | {folder: ["transformers", name] for folder, name in self.tokenizers.items()}


# ------------------------------------------------------------------------------------------------ FLUX.1


def clip_l():
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    rename = [(r"^(?!text_model\.)", "text_model.")]
    return Part(CLIPTextModel, config, BF16, 196, 246_120_960, drop="position_ids", rename=rename)


def t5_xxl():
    config = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=32, relative_attention_max_distance=128,
        layer_norm_epsilon=1e-6, dropout_rate=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    return Part(
        T5EncoderModel, config, BF16, 219, 9_524_621_312, shards=2, shard_bytes=5e9, drop=r"encoder\.embed_tokens"
    )


def flux1_vae():
    config = dict(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32,
        sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return Part(AutoencoderKL, config, BF16, 244, 167_639_366)


def flux1(guidance, tensors, size, **scheduler):
    config = dict(
        patch_size=1, in_channels=64, num_layers=19, num_single_layers=38, attention_head_dim=128,
        num_attention_heads=24, joint_attention_dim=4096, pooled_projection_dim=768, guidance_embeds=guidance,
        axes_dims_rope=(16, 56, 56),
    )  # fmt: skip
    return Release(
        "FluxPipeline",
        dict(
            text_encoder=clip_l(),
            text_encoder_2=t5_xxl(),
            transformer=Part(FluxTransformer2DModel, config, BF16, tensors, size, shards=3),
            vae=flux1_vae(),
        ),
        dict(base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096) | scheduler,
        dict(tokenizer="CLIPTokenizer", tokenizer_2="T5TokenizerFast"),
    )


# ----------------------------------------------------------------------------------------------- Z-Image


def qwen3_4b(shards=3, shard_bytes=4e9, listed="Qwen3Model"):
    config = Qwen3Config(
        vocab_size=151936, hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-6, max_position_embeddings=40960, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    return Part(
        Qwen3ForCausalLM, config, BF16, 398, 8_044_936_192, shards, shard_bytes, drop="lm_head", listed=listed
    )


def z_image(dtype, size, shards, shift):
    config = dict(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30,
        n_kv_heads=30, norm_eps=1e-5, qk_norm=True, cap_feat_dim=2560, rope_theta=256.0, t_scale=1000.0,
        axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
    )  # fmt: skip
    return Release(
        "ZImagePipeline",
        dict(
            text_encoder=qwen3_4b(),
            transformer=Part(ZImageTransformer2DModel, config, dtype, 521, size, shards=shards),
            vae=flux1_vae(),
        ),
        dict(shift=shift, use_dynamic_shifting=False),
        dict(tokenizer="Qwen2Tokenizer"),
    )


RELEASES = {
    "flux1-dev": lambda: flux1(True, 1160, 23_802_816_640, shift=3.0, use_dynamic_shifting=True),
    "flux1-schnell": lambda: flux1(False, 1156, 23_782_357_120, shift=1.0, use_dynamic_shifting=False),
    "z-image": lambda: z_image(BF16, 12_309_817_472, 2, shift=6.0),
    "z-image-turbo": lambda: z_image(F32, 24_619_634_944, 3, shift=3.0),
}
