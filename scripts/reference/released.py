"""Contents of the released checkpoints: configs, tensor names, shapes, dtypes, shards, totals.

Names and shapes come from the model classes on the meta device, so no weight is allocated. `tensors` and `bytes` are the totals of
the released index files and file sizes; `names_and_shapes` checks them.
"""

import json
import math
import re
from dataclasses import dataclass, field

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    UniPCMultistepScheduler,
    WanTransformer3DModel,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    UMT5Config,
    UMT5EncoderModel,
)

from tiny import release_config

BF16, F32 = torch.bfloat16, torch.float32
SAFETENSORS_NAMES = {BF16: "BF16", F32: "F32", torch.int64: "I64"}


@dataclass
class Component:
    """One component: one folder of a checkpoint."""

    model: type
    config: object  # keyword arguments of a diffusers class, or a transformers configuration
    dtype: torch.dtype
    tensors: int
    bytes: int | None  # None: unknown
    shards: int = 1
    shard_bytes: float = 1e10  # maximum bytes per shard
    drop: str = r"(?!)"  # names that the released file lacks: tied weights, buffers
    rename: list = field(default_factory=list)  # (pattern, replacement) on names
    index_class: str | None = None  # the class in model_index.json, if it differs from `model`

    @property
    def stem(self):
        return "diffusion_pytorch_model" if self.model.__module__.startswith("diffusers") else "model"

    def build(self):
        with torch.device("meta"):
            return self.model(**self.config) if isinstance(self.config, dict) else self.model(self.config)

    def names_and_shapes(self):
        """Returns [(name, dtype, shape)] in the model's order. Fails if the totals differ from the release."""
        rows = []
        for name, tensor in self.build().state_dict().items():
            if re.search(self.drop, name):
                continue
            for pattern, replacement in self.rename:
                name = re.sub(pattern, replacement, name)
            rows.append((name, self.dtype if tensor.is_floating_point() else tensor.dtype, tuple(tensor.shape)))
        total = sum(math.prod(shape) * dtype.itemsize for _, dtype, shape in rows)
        self.bytes = self.bytes or total
        assert (len(rows), total) == (self.tensors, self.bytes), (
            f"{self.model.__name__}: {len(rows)} tensors of {total} bytes, the release has {self.tensors} of {self.bytes}"
        )
        return rows

    def released_config(self):
        """Returns config.json as released, with the keys of transformers 4."""
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
    components: dict  # folder → Component
    scheduler: dict
    tokenizers: dict  # folder → class name in model_index.json
    scheduler_class: type = FlowMatchEulerDiscreteScheduler
    options: dict = field(default_factory=dict)  # pipeline options in model_index.json

    def model_index(self):
        index = {"_class_name": self.pipeline, "_diffusers_version": "0.30.0.dev0"} | self.options
        index["scheduler"] = ["diffusers", self.scheduler_class.__name__]
        for folder, component in self.components.items():
            index[folder] = [component.model.__module__.split(".")[0], component.index_class or component.model.__name__]
        return index | {folder: ["transformers", name] for folder, name in self.tokenizers.items()}


# ------------------------------------------------------------------------------------------------ FLUX.1


def clip_l():
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, projection_dim=768, num_hidden_layers=12,
        num_attention_heads=12, max_position_embeddings=77, hidden_act="quick_gelu", layer_norm_eps=1e-5,
        bos_token_id=0, eos_token_id=2, pad_token_id=1,
    )  # fmt: skip
    rename = [(r"^(?!text_model\.)", "text_model.")]
    return Component(CLIPTextModel, config, BF16, 196, 246_120_960, drop="position_ids", rename=rename)


def t5_xxl():
    config = T5Config(
        vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64,
        feed_forward_proj="gated-gelu", relative_attention_num_buckets=32, relative_attention_max_distance=128,
        layer_norm_epsilon=1e-6, dropout_rate=0.1, tie_word_embeddings=False,
    )  # fmt: skip
    return Component(
        T5EncoderModel, config, BF16, 219, 9_524_621_312, shards=2, shard_bytes=5e9, drop=r"encoder\.embed_tokens"
    )


def flux1_vae():
    config = dict(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=16, norm_num_groups=32,
        sample_size=1024, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False, use_post_quant_conv=False,
    )  # fmt: skip
    return Component(AutoencoderKL, config, BF16, 244, 167_639_366)


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
            transformer=Component(FluxTransformer2DModel, config, BF16, tensors, size, shards=3),
            vae=flux1_vae(),
        ),
        dict(base_shift=0.5, max_shift=1.15, base_image_seq_len=256, max_image_seq_len=4096) | scheduler,
        dict(tokenizer="CLIPTokenizer", tokenizer_2="T5TokenizerFast"),
    )


# --------------------------------------------------------------------------------------- language models


def rope(theta, **more):
    return {"rope_type": "default", "rope_theta": theta} | more


def qwen3(hidden, mlp, tied, tensors, size, **more):
    config = Qwen3Config(
        vocab_size=151936, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=36, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-6, max_position_embeddings=40960, tie_word_embeddings=tied,
        rope_parameters=rope(1e6),
    )  # fmt: skip
    return Component(Qwen3ForCausalLM, config, BF16, tensors, size, drop="lm_head" if tied else r"(?!)", **more)


def qwen3_4b(**more):
    return qwen3(2560, 9728, True, 398, 8_044_936_192, **more)


def qwen2_5_vl():
    config = Qwen2_5_VLConfig(
        text_config=dict(
            vocab_size=152064, hidden_size=3584, intermediate_size=18944, num_hidden_layers=28, num_attention_heads=28,
            num_key_value_heads=4, rms_norm_eps=1e-6, rope_parameters=rope(1e6, mrope_section=[16, 24, 24]),
        ),
        vision_config=dict(
            depth=32, hidden_size=1280, intermediate_size=3420, num_heads=16, out_hidden_size=3584, patch_size=14,
            fullatt_block_indexes=[7, 15, 23, 31],
        ),
        tie_word_embeddings=False,
    )  # fmt: skip
    rename = [(r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")]
    size = 16_584_333_312
    return Component(Qwen2_5_VLForConditionalGeneration, config, BF16, 729, size, shards=4, shard_bytes=5e9, rename=rename)


def mistral_small():
    """Includes the vision tower for its names. The total size is unknown: the release's index does not give it."""
    text = MistralConfig(
        vocab_size=131072, hidden_size=5120, intermediate_size=32768, num_hidden_layers=40, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, rms_norm_eps=1e-5, rope_parameters=rope(1e9), sliding_window=None,
    )  # fmt: skip
    vision = PixtralVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=1540,
        patch_size=14, rope_parameters=rope(1e4),
    )  # fmt: skip
    config = Mistral3Config(text_config=text, vision_config=vision, tie_word_embeddings=False)
    rename = [
        (r"^lm_head", "language_model.lm_head"),
        (r"^model\.language_model\.", "language_model.model."),
        (r"^model\.", ""),
    ]
    return Component(Mistral3ForConditionalGeneration, config, BF16, 585, None, shards=10, shard_bytes=4.9e9, rename=rename)


# ------------------------------------------------------------------------------------------------ FLUX.2


def flux2(text, layers, heads, joint, tensors, size, shards, vae=BF16):
    klein = text.model is Qwen3ForCausalLM
    config = dict(
        patch_size=1, in_channels=128, num_layers=layers[0], num_single_layers=layers[1], attention_head_dim=128,
        num_attention_heads=heads, joint_attention_dim=joint, timestep_guidance_channels=256, mlp_ratio=3.0,
        axes_dims_rope=(32, 32, 32, 32), rope_theta=2000, eps=1e-6, guidance_embeds=not klein,
    )  # fmt: skip
    return Release(
        "Flux2KleinPipeline" if klein else "Flux2Pipeline",
        dict(
            text_encoder=text,
            transformer=Component(Flux2Transformer2DModel, config, BF16, tensors, size, shards=shards),
            vae=Component(AutoencoderKLFlux2, {}, vae, 251, None),
        ),
        dict(
            shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15, base_image_seq_len=256,
            max_image_seq_len=4096,
        ),
        dict(tokenizer="Qwen2TokenizerFast" if klein else "PixtralProcessor"),
        options=dict(is_distilled=True) if klein else {},
    )  # fmt: skip


# -------------------------------------------------------------------------------------------- Qwen-Image


def qwen_image():
    config = dict(
        patch_size=2, in_channels=64, out_channels=16, num_layers=60, attention_head_dim=128, num_attention_heads=24,
        joint_attention_dim=3584, guidance_embeds=False, axes_dims_rope=(16, 56, 56),
    )  # fmt: skip
    return Release(
        "QwenImagePipeline",
        dict(
            text_encoder=qwen2_5_vl(),
            transformer=Component(QwenImageTransformer2DModel, config, BF16, 1933, 40_860_802_176, shards=9, shard_bytes=4.999e9),
            vae=Component(AutoencoderKLQwenImage, {}, BF16, 194, 253_785_062),
        ),
        dict(
            shift=1.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, base_image_seq_len=256,
            max_image_seq_len=8192, shift_terminal=0.02,
        ),
        dict(tokenizer="Qwen2Tokenizer"),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------- Wan 2.1


def umt5_xxl():
    config = UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64, feed_forward_proj="gated-gelu",
        relative_attention_num_buckets=32, relative_attention_max_distance=128, layer_norm_epsilon=1e-6,
        tie_word_embeddings=False,
    )  # fmt: skip
    size = 22_723_641_344
    return Component(UMT5EncoderModel, config, F32, 242, size, shards=5, shard_bytes=5e9, drop=r"encoder\.embed_tokens")


def wan(layers, heads, ffn, tensors, size, shards, shard_bytes):
    config = dict(
        patch_size=(1, 2, 2), num_attention_heads=heads, attention_head_dim=128, in_channels=16, out_channels=16,
        text_dim=4096, freq_dim=256, ffn_dim=ffn, num_layers=layers, cross_attn_norm=True, eps=1e-6, rope_max_seq_len=1024,
        qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    return Release(
        "WanPipeline",
        dict(
            text_encoder=umt5_xxl(),
            transformer=Component(WanTransformer3DModel, config, F32, tensors, size, shards, shard_bytes),
            vae=Component(AutoencoderKLWan, {}, F32, 194, 507_570_124),
        ),
        dict(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0),
        dict(tokenizer="T5TokenizerFast"),
        scheduler_class=UniPCMultistepScheduler,
    )


# ----------------------------------------------------------------------------------------------- Z-Image


def z_image(dtype, size, shards, shift):
    config = dict(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=3840, n_layers=30, n_refiner_layers=2, n_heads=30,
        n_kv_heads=30, norm_eps=1e-5, qk_norm=True, cap_feat_dim=2560, rope_theta=256.0, t_scale=1000.0,
        axes_dims=[32, 48, 48], axes_lens=[1536, 512, 512],
    )  # fmt: skip
    return Release(
        "ZImagePipeline",
        dict(
            text_encoder=qwen3_4b(shards=3, shard_bytes=4e9, index_class="Qwen3Model"),
            transformer=Component(ZImageTransformer2DModel, config, dtype, 521, size, shards=shards),
            vae=flux1_vae(),
        ),
        dict(shift=shift, use_dynamic_shifting=False),
        dict(tokenizer="Qwen2Tokenizer"),
    )


RELEASES = {
    "flux1-dev": lambda: flux1(True, 1160, 23_802_816_640, shift=3.0, use_dynamic_shifting=True),
    "flux1-schnell": lambda: flux1(False, 1156, 23_782_357_120, shift=1.0, use_dynamic_shifting=False),
    "flux2-dev": lambda: flux2(mistral_small(), (8, 48), 48, 15360, 331, 64_446_562_304, 7, vae=F32),
    "klein-4b": lambda: flux2(qwen3_4b(shards=2, shard_bytes=5e9), (5, 20), 24, 7680, 169, 7_751_089_152, 1),
    "klein-9b": lambda: flux2(
        qwen3(4096, 12288, False, 399, 16_381_470_720, shards=4, shard_bytes=5e9), (8, 24), 32, 12288, 233, 18_157_162_496, 2
    ),
    "qwen-image": qwen_image,
    "wan-1.3b": lambda: wan(30, 12, 8960, 825, 5_675_987_200, 2, 5e9),
    "wan-14b": lambda: wan(40, 40, 13824, 1095, 57_153_966_336, 12, 5e9),
    "z-image": lambda: z_image(BF16, 12_309_817_472, 2, shift=6.0),
    "z-image-turbo": lambda: z_image(F32, 24_619_634_944, 3, shift=3.0),
}
