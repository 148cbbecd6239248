#!/usr/bin/env python3
"""Compares a FLUX.2-klein run of the released size with diffusers, on random bf16 weights, both computing in f32.

    stand_in.py FOLDER --model klein-4b --draw 1
    crescendo generate --model-path FOLDER --prompt "a red fox" --height 512 --width 512 --num-inference-steps 4 --save-latents L.safetensors …
    true_size.py FOLDER L.safetensors --prompt "a red fox" [--steps 4] [--run 1]

Weights stay in bf16 and are converted to f32 per module call, so peak memory is the bf16 size of one component. Prints the maximum
error after each step, relative to the latent and to its distance from the noise.
"""

import argparse

import torch
from diffusers import Flux2KleinPipeline, Flux2Transformer2DModel, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3ForCausalLM


def compute_in_f32(model):
    """Makes every module with bf16 weights compute with f32 copies, which live only during its call."""
    for module in model.modules():
        bf16_weights = {name: p for name, p in module.named_parameters(recurse=False) if p.dtype == torch.bfloat16}
        if not bf16_weights:
            continue
        call = module.forward

        def forward(*args, _call=call, _module=module, _bf16_weights=bf16_weights, **kwargs):
            for name, p in _bf16_weights.items():
                _module._parameters[name] = torch.nn.Parameter(p.float(), requires_grad=False)
            try:
                return _call(*args, **kwargs)
            finally:
                _module._parameters.update(_bf16_weights)

        module.forward = forward
    # The pipeline casts inputs to the dtype of the model.
    model.__class__ = type(model.__class__.__name__, (model.__class__,), {"dtype": property(lambda self: torch.float32)})
    return model.eval()


class StopRun(Exception):
    pass


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="checkpoint of stand_in.py")
    parser.add_argument("latents", help="file of --save-latents")
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--steps", type=int, default=4, help="number of inference steps")
    parser.add_argument("--run", type=int, default=1, help="number of steps to compare")
    args = parser.parse_args()
    ours = load_file(args.latents)
    scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(args.folder, subfolder="scheduler")
    shared = dict(scheduler=scheduler, vae=None, tokenizer=AutoTokenizer.from_pretrained(f"{args.folder}/tokenizer"))

    encoder = Qwen3ForCausalLM.from_pretrained(args.folder, subfolder="text_encoder", torch_dtype=torch.bfloat16)
    text_pipe = Flux2KleinPipeline(text_encoder=compute_in_f32(encoder), transformer=None, is_distilled=True, **shared)
    embeds = text_pipe.encode_prompt(prompt=args.prompt, device="cpu")[0].float()
    del encoder, text_pipe
    print(f"text {tuple(embeds.shape)}", flush=True)

    network = Flux2Transformer2DModel.from_pretrained(args.folder, subfolder="transformer", torch_dtype=torch.bfloat16)
    pipe = Flux2KleinPipeline(text_encoder=None, transformer=compute_in_f32(network), is_distilled=True, **shared)
    size = ours["noise"].shape[-1] * 16

    def compare(_, step, __, tensors):
        expected = tensors["latents"]
        output = ours[f"latents.{step}"].flatten(2).transpose(1, 2)
        noise = ours["noise"].flatten(2).transpose(1, 2)
        moved = (expected - noise).abs().max()
        error = (output - expected).abs().max()
        print(f"after step {step + 1}: {error / expected.abs().max():.1e} of the latent, {error / moved:.1e} of its distance from the noise", flush=True)
        if step + 1 == args.run:
            raise StopRun
        return {}

    try:
        pipe(
            prompt_embeds=embeds, height=size, width=size, num_inference_steps=args.steps, latents=ours["noise"],
            output_type="latent", callback_on_step_end=compare,
        )  # fmt: skip
    except StopRun:
        pass


if __name__ == "__main__":
    main()
