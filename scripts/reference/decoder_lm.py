#!/usr/bin/env python3
"""Writes goldens of a tiny Mistral 3 text encoder, in the two file layouts of FLUX.2-dev.

Writes `tests/goldens/mistral`. `old` has the released layout (transformers 4), `new` has the layout of transformers 5.
`states.{json,safetensors}` holds the hidden states of left-padded prompts.
"""

import json
import shutil

import torch
from safetensors.torch import load_file
from transformers import Mistral3Config, Mistral3ForConditionalGeneration, MistralConfig, PixtralVisionConfig

from tiny import GOLDENS, randomise, release_config, rewrite_json, save_file, write_golden, write_json

OUT = GOLDENS / "mistral"
HIDDEN_LAYERS = [1, 2, 3]
PAD_ID, ROWS = 11, 24


def build():
    text = MistralConfig(
        vocab_size=60, hidden_size=24, intermediate_size=56, num_hidden_layers=5, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 1e9},
        sliding_window=None, tie_word_embeddings=False, max_position_embeddings=131072,
    )  # fmt: skip
    vision = PixtralVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
    )
    config = Mistral3Config(text_config=text, vision_config=vision, image_token_index=10, tie_word_embeddings=False)
    return randomise(Mistral3ForConditionalGeneration(config), 700).to(torch.bfloat16)


def released_name(name):
    """Returns the tensor name of transformers 4, which the released files use."""
    if name == "lm_head.weight":
        return "language_model.lm_head.weight"
    name = name.removeprefix("model.")
    return name.replace("language_model.", "language_model.model.", 1) if name.startswith("language_model.") else name


@torch.no_grad()
def main():
    shutil.rmtree(OUT, ignore_errors=True)
    model = build()
    names = sorted(model.state_dict())
    assert any(n.startswith("model.language_model.layers.4.") for n in names), names[:3]
    state = {n: t.contiguous() for n, t in model.state_dict().items()}
    config = json.loads(model.config.to_json_string(use_diff=False))
    for folder, rename in (("new", str), ("old", released_name)):
        (OUT / folder).mkdir(parents=True)
        save_file({rename(n): t for n, t in state.items()}, OUT / folder / "model.safetensors", metadata={"format": "pt"})
        write_json(OUT / folder / "config.json", config)
    rewrite_json(OUT / "old/config.json", lambda c: c | {"text_config": release_config(c["text_config"])})
    reloaded = Mistral3ForConditionalGeneration.from_pretrained(OUT / "old", dtype=torch.float32)
    for name, tensor in reloaded.state_dict().items():
        assert torch.equal(tensor, state[name].float()), name
    assert load_file(OUT / "old/model.safetensors").keys() != state.keys()

    generator = torch.Generator().manual_seed(1)
    tensors, rows = {}, []
    for n, length in enumerate([9, 1, ROWS]):
        text = torch.randint(12, 60, (length,), generator=generator)
        ids = torch.cat([torch.full((ROWS - length,), PAD_ID), text])[None]
        mask = torch.cat([torch.zeros(ROWS - length), torch.ones(length)])[None].long()
        output = reloaded(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        hidden_states = torch.cat([output.hidden_states[k] for k in HIDDEN_LAYERS], dim=-1)
        tensors |= {f"{n}.ids": ids, f"{n}.mask": mask, f"{n}.states": hidden_states}
        rows.append(dict(text=length, rows=ROWS))
    write_golden(OUT / "states.safetensors", tensors)
    write_json(OUT / "states.json", dict(hidden=HIDDEN_LAYERS, rows=rows))


if __name__ == "__main__":
    main()
