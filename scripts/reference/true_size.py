#!/usr/bin/env python3
"""Hold a run at a release's true size against diffusers: FLUX.2 klein on drawn bf16 weights, both computing in f32.

    stand_in.py FOLDER --model klein-4b --draw 1
    crescendo generate --model-path FOLDER --prompt "a red fox" --height 512 --width 512 --num-inference-steps 4 --save-latents L.safetensors …
    true_size.py FOLDER L.safetensors --prompt "a red fox" [--steps 4] [--run 1]

Weights stay bf16 and are widened as they are used, so it takes one component's size of memory. Prints the
greatest error after each step, relative to the latent and to how far it has moved from the noise.
"""

import argparse

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3ForCausalLM


def widen_in_use(model):
    """Every module that owns bf16 weights computes with f32 copies that live as long as its call."""
    for module in model.modules():
        own = {name: p for name, p in module.named_parameters(recurse=False) if p.dtype == torch.bfloat16}
        if not own:
            continue
        call = module.forward

        def forward(*args, _call=call, _module=module, _own=own, **kwargs):
            for name, p in _own.items():
                _module._parameters[name] = torch.nn.Parameter(p.float(), requires_grad=False)
            try:
                return _call(*args, **kwargs)
            finally:
                _module._parameters.update(_own)

        module.forward = forward
    # What inputs are cast to is asked of the model.
    model.__class__ = type(model.__class__.__name__, (model.__class__,), {"dtype": property(lambda self: torch.float32)})
    return model.eval()


class Enough(Exception):
    pass


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("latents")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--run", type=int, default=1, help="steps that are compared")
    args = parser.parse_args()
    ours = load_file(args.latents)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(args.folder, subfolder="scheduler")
    parts = dict(scheduler=scheduler, vae=None, tokenizer=AutoTokenizer.from_pretrained(f"{args.folder}/tokenizer"))

    encoder = Qwen3ForCausalLM.from_pretrained(args.folder, subfolder="text_encoder", torch_dtype=torch.bfloat16)
    text = Flux2KleinPipeline(text_encoder=widen_in_use(encoder), transformer=None, is_distilled=True, **parts)
    embeds = text.encode_prompt(prompt=args.prompt, device="cpu")[0].float()
    del encoder, text
    print(f"text {tuple(embeds.shape)}", flush=True)

    network = Flux2Transformer2DModel.from_pretrained(args.folder, subfolder="transformer", torch_dtype=torch.bfloat16)
    pipe = Flux2KleinPipeline(text_encoder=None, transformer=widen_in_use(network), is_distilled=True, **parts)
    size = ours["noise"].shape[-1] * 16

    def compare(_, step, __, tensors):
        wanted = tensors["latents"]
        found = ours[f"latents.{step}"].flatten(2).transpose(1, 2)
        begin = ours["noise"].flatten(2).transpose(1, 2)
        moved = (wanted - begin).abs().max()
        error = (found - wanted).abs().max()
        print(f"after step {step + 1}: {error / wanted.abs().max():.1e} of the latent, {error / moved:.1e} of what it moved", flush=True)
        if step + 1 == args.run:
            raise Enough
        return {}

    try:
        pipe(
            prompt_embeds=embeds, height=size, width=size, num_inference_steps=args.steps, latents=ours["noise"],
            output_type="latent", callback_on_step_end=compare,
        )  # fmt: skip
    except Enough:
        pass


if __name__ == "__main__":
    main()
