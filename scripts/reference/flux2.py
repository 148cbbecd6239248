#!/usr/bin/env python3
"""Writes goldens of FLUX.2-dev and of FLUX.2-klein-base (klein before distillation), with the runs of families.py.

FLUX.2-dev has its own checkpoint. FLUX.2-klein-base uses the files of flux2-klein and runs with guidance.

    flux2.py [flux2-dev flux2-klein-base]
"""

import argparse
import json
import shutil

import torch
from diffusers import AutoencoderKLFlux2, Flux2Pipeline, Flux2Transformer2DModel
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    MistralConfig,
    PixtralVisionConfig,
    PreTrainedTokenizerFast,
)

from checkpoints import flow_scheduler
from families import Klein, runs, text
from tiny import CORPUS, GOLDENS, load_checkpoint, rewrite_json, save_checkpoint, train_bpe, write_json

SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[IMG]", "<pad>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
TEMPLATE = (
    "{{ bos_token }}{%- for m in messages %}{%- if m.role == 'system' %}"
    "{{ '[SYSTEM_PROMPT]' + m.content[0].text + '[/SYSTEM_PROMPT]' }}{%- else %}"
    "{{ '[INST]' + m.content[0].text + '[/INST]' }}{%- endif %}{%- endfor %}"
)


def mistral_tokenizer():
    """Byte-level BPE. Mistral's special tokens have the first ids. It prepends <s> to plain text and pads on the left."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab, merges = train_bpe(piece for line in CORPUS for piece, _ in byte_level.pre_tokenize_str(line))
    vocab = {name: i for i, name in enumerate([*SPECIAL, *vocab])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer, tokenizer.decoder = byte_level, decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="<pad>",
        padding_side="left", chat_template=TEMPLATE, model_max_length=131072,
    )  # fmt: skip


def build_flux2_dev():
    tokenizer = mistral_tokenizer()
    language = MistralConfig(
        vocab_size=len(tokenizer) + 5, hidden_size=16, intermediate_size=24, num_hidden_layers=31, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, sliding_window=None,
        rope_parameters={"rope_type": "default", "rope_theta": 1e9},
    )  # fmt: skip
    vision = PixtralVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    config = Mistral3Config(text_config=language, vision_config=vision, tie_word_embeddings=False)
    components = dict(
        scheduler=flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=AutoencoderKLFlux2(
            block_out_channels=(8, 12, 16, 16), layers_per_block=2, latent_channels=4, norm_num_groups=4
        ),
        # The pipeline reads hidden states 10, 20 and 30.
        text_encoder=Mistral3ForConditionalGeneration(config),
        tokenizer=tokenizer,
        transformer=Flux2Transformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=2, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=48, axes_dims_rope=(4, 4, 4, 4), guidance_embeds=True,
        ),
    )  # fmt: skip
    return dict(pipeline=Flux2Pipeline, components=components, shard="5GB")


class Dev(Klein):
    name, call = "flux2-dev", dict(guidance_scale=2.5, max_sequence_length=256)

    def load(self):
        folder = GOLDENS / self.name / "model"
        save_checkpoint(folder, build_flux2_dev(), torch.bfloat16, 700)
        pipe = load_checkpoint(folder)
        # The release lists a processor for text and pictures as its tokenizer.
        rewrite_json(folder / "model_index.json", lambda index: index | dict(tokenizer=["transformers", "PixtralProcessor"]))
        return pipe

    def text(self, pipe, prompt):
        return pipe.encode_prompt(prompt=prompt, max_sequence_length=256)

    def velocity(self, pipe, latents, t, positive, negative, case):
        ids = pipe._prepare_latent_ids(latents)
        out = pipe.transformer(
            hidden_states=pipe._pack_latents(latents), timestep=t.expand(1) / 1000,
            guidance=torch.full([1], case["guidance_scale"]), encoder_hidden_states=positive[0], txt_ids=positive[1],
            img_ids=ids, return_dict=False,
        )[0]  # fmt: skip
        return pipe._unpack_latents_with_ids(out, ids)

    def spatial(self, pipe, latents, size):
        return pipe._unpack_latents_with_ids(latents, pipe._prepare_latent_ids(torch.zeros(1, 1, *size)))


class Base(Klein):
    name, call = "flux2-klein-base", dict(guidance_scale=4.0, max_sequence_length=64)

    def load(self):
        """Links to the files of flux2-klein, with another model_index.json."""
        source, folder = GOLDENS / "flux2-klein/model", GOLDENS / self.name / "model"
        shutil.rmtree(folder, ignore_errors=True)
        index = json.loads((source / "model_index.json").read_text()) | dict(is_distilled=False)
        write_json(folder / "model_index.json", index)
        for component in source.iterdir():
            if component.is_dir():
                (folder / component.name).symlink_to(f"../../flux2-klein/model/{component.name}")
        return load_checkpoint(folder)

    def velocity(self, pipe, latents, t, positive, negative, case):
        pos, neg = (Klein.velocity(self, pipe, latents, t, embeds, None, case) for embeds in (positive, negative))
        return neg + case["guidance_scale"] * (pos - neg)


@torch.no_grad()
def main():
    families = {f.name: f for f in (Dev(), Base())}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(families))
    for name in parser.parse_args().names or families:
        print(name)
        family = families[name]
        pipe = family.load()
        if name == "flux2-dev":
            text(family, GOLDENS / name, pipe)
        runs(family, GOLDENS / name, pipe)


if __name__ == "__main__":
    main()
