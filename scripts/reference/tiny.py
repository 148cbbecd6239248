"""Shared code of these scripts: tiny tokenizers, random weights, the released on-disk layout, golden files."""

import json
import math
import os
import shutil
from collections import Counter
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import CLIPTextModel, CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer

ROOT = Path(__file__).resolve().parents[2]
GOLDENS = ROOT / "tests/goldens"

# One thread: the order of summation is the same on every machine.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
for library in (diffusers, transformers):
    library.utils.logging.disable_progress_bar()
    library.utils.logging.set_verbosity_error()

PROMPT = "a red fox reading a book under a tall tree, soft morning light"
OTHER_PROMPT = "blue sky over green hills, two small boats"

# The 34-token prefix that Qwen-Image drops. The corpus contains its words, so that each becomes one token.
QWEN_IMAGE_PREFIX = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, "
    "spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
CORPUS = [
    "system\n", "user\n", "assistant\n", "\n\n",
    QWEN_IMAGE_PREFIX.replace("<|im_start|>", "").replace("<|im_end|>", ""),
    PROMPT, OTHER_PROMPT, "a photo of a cat", "the quick brown fox jumps over the lazy dog", "naïve café, Ångström",
    "一只红色的狐狸", "шёлк и лён", "🦊 🌲", "it's 1024 x 768; isn't it? we'll see!",
]  # fmt: skip

# Difficult prompts: letter case, spaces, contractions, digits, other scripts, combining marks, emoji with joiners, control
# characters, names of special tokens, the empty prompt, and prompts over the length limit.
HARD_PROMPTS = [
    PROMPT, OTHER_PROMPT, "", " ", "A", "   leading and   inner  spaces and trailing   ", "tab\tand\nnew\r\nlines\n\n\n",
    "It's the Fox's BOOK; we'LL see, I'd say they've won't", "1024x768, 3.14159 and 100%", "snake_case-and/slashes\\",
    "naïve café Ångström", "nai\u0308ve cafe\u0301 A\u030angstro\u0308m", "ﬁne ﬂuﬀ ½ № ①", "一只红色的狐狸，在树下看书。",
    "赤いキツネ が 本を読む", "шёлк и лён, Ёж", "ثعلب أحمر", "लाल लोमड़ी", "🦊🌲 a fox 👩‍👩‍👧‍👦 🇩🇪 👍🏽",
    "zero\u200bwidth and\u00a0no-break and \ufeffmark", "dash – em — minus − “quotes” ‘single’ …",
    "<|endoftext|> inside <|startoftext|> text </s> <pad> <unk>", "a" * 300, "fox " * 120, "!?!?...,,,;;;()[]{}",
    "the lazy dog jumps over the quick brown fox " * 80,
]  # fmt: skip

CHAT_TEMPLATE = (
    "{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif %}"
    "{%- endif %}"
)


# --------------------------------------------------------------------------------------------- tokenizers


def train_bpe(pieces, suffix="", max_merges=400):
    """Trains byte-pair merges on pieces of text. Ties are broken by name. Returns (vocab, merges)."""
    counts = Counter(pieces)
    symbols_of = {word: [*word[:-1], word[-1] + suffix] for word in counts}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = alphabet + [letter + suffix for letter in alphabet if suffix]
    merges = []
    while len(merges) < max_merges:
        pairs = Counter()
        for word, symbols in symbols_of.items():
            for pair in zip(symbols, symbols[1:]):
                pairs[pair] += counts[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        names.append("".join(best))
        for word, symbols in symbols_of.items():
            merged = []
            for symbol in symbols:
                if merged and (merged[-1], symbol) == best:
                    merged[-1] += symbol
                else:
                    merged.append(symbol)
            symbols_of[word] = merged
    return {name: i for i, name in enumerate(dict.fromkeys(names))}, merges


def write_vocab(folder, vocab, merges):
    """Writes vocab.json and merges.txt."""
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(m) for m in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def qwen_tokenizer():
    """Byte-level BPE. Qwen's special tokens follow the base vocabulary."""
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    vocab, merges = train_bpe(piece for text in CORPUS for piece, _ in byte_level.pre_tokenize_str(text))
    tokenizer = Qwen2Tokenizer(
        vocab=vocab, merges=merges, pad_token="<|endoftext|>", eos_token="<|im_end|>", unk_token=None,
        model_max_length=131072,
    )  # fmt: skip
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    tokenizer.add_tokens(["<think>", "</think>"])
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer, vocab, merges


def clip_tokenizer():
    """Lower-casing byte BPE with </w> word ends. <|endoftext|> has the highest id: CLIP's pooling requires it."""
    words, to_bytes = pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab, merges = train_bpe(
        (
            "".join(part for part, _ in to_bytes.pre_tokenize_str(piece))
            for text in CORPUS
            for piece, _ in words.pre_tokenize_str(text.lower())
        ),
        suffix="</w>",
    )
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocab[special] = len(vocab)
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77), vocab, merges


def t5_tokenizer(max_length=512):
    """Unigram model of words and single characters. <pad> is 0, </s> is 1, <unk> is 2."""
    counts = Counter()
    for word in " ".join(CORPUS).split():
        counts.update(["\u2581" + word, "\u2581", *word])
    total = counts.total()
    pieces = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    vocab = [(special, 0.0) for special in ("<pad>", "</s>", "<unk>")]
    vocab += [(piece, math.log(count / total)) for piece, count in pieces]
    return T5Tokenizer(vocab=vocab, extra_ids=0, model_max_length=max_length)


def as_clip_release(folder):
    """Converts to the layout of FLUX.1's `tokenizer` folder: no tokenizer.json, and the two configs of transformers 4."""
    added_tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    (folder / "tokenizer.json").unlink()
    token = dict(lstrip=False, normalized=True, rstrip=False, single_word=False)
    start, end = ({"content": content, **token} for content in ("<|startoftext|>", "<|endoftext|>"))
    write_json(
        folder / "special_tokens_map.json",
        dict(bos_token=start, eos_token=end, pad_token="<|endoftext|>", unk_token=end),
    )
    config = dict(
        add_prefix_space=False,
        added_tokens_decoder={str(t["id"]): {**(start if t["content"] == start["content"] else end), "special": True}
                              for t in added_tokens},
        bos_token="<|startoftext|>", clean_up_tokenization_spaces=True, do_lower_case=True, eos_token="<|endoftext|>",
        errors="replace", model_max_length=77, pad_token="<|endoftext|>", tokenizer_class="CLIPTokenizer",
        unk_token="<|endoftext|>",
    )  # fmt: skip
    write_json(folder / "tokenizer_config.json", config)


# ------------------------------------------------------------------------------------------------ weights


@torch.no_grad()
def randomise(module, seed):
    """Sets every parameter and running statistic to a random value: no zeros, ones or uninitialised memory."""
    generator = torch.Generator().manual_seed(seed)

    def noise(t):
        return torch.randn(t.shape, generator=generator)

    for name, p in module.named_parameters():
        leaf = name.rsplit(".", 1)[-1]
        if leaf == "gamma" or (p.ndim == 1 and leaf == "weight"):  # norm gains
            value = 1 + 0.1 * noise(p)
        elif leaf == "bias":
            value = 0.05 * noise(p)
        elif leaf in ("scale_shift_table", "x_pad_token", "cap_pad_token"):
            value = 0.3 * noise(p)
        else:
            value = noise(p) / math.sqrt(max(1, p[0].numel()))
        p.copy_(value)
    for name, b in module.named_buffers():
        if name.endswith("running_mean"):
            b.copy_(0.3 * noise(b))
        elif name.endswith("running_var"):
            b.copy_(0.5 + torch.rand(b.shape, generator=generator))
    return module.eval()


# -------------------------------------------------------------------------------------------- checkpoints


def release_config(config):
    """Converts config keys of transformers 5 to those of transformers 4, which the released checkpoints use."""
    if "dtype" in config:
        config["torch_dtype"] = config.pop("dtype")
    rope = config.pop("rope_parameters", None)
    if rope is not None:
        config["rope_theta"] = rope["rope_theta"]
        sections = rope.get("mrope_section")
        config["rope_scaling"] = {"mrope_section": sections, "rope_type": "default"} if sections else None
    if "text_config" in config:  # Qwen2.5-VL: the top level repeats the keys of the text model
        config["text_config"] = release_config(config["text_config"])
        config = {**config["text_config"], **config}
    return config


def save_checkpoint(folder, family, dtype, seed):
    """Randomises, casts and writes one checkpoint in the layout of the released ones.

    `family`: `pipeline` (class), `components` (name → module, tokenizer or scheduler), `shard` (maximum file size of the transformer),
    and optionally `config` (of the pipeline), `bpe` (folder → vocab, merges), `names` (component → class name in the released
    model_index.json) and `causal` (the causal language model whose file holds the text encoder).
    """
    shutil.rmtree(folder, ignore_errors=True)
    modules = {k: m for k, m in family["components"].items() if isinstance(m, torch.nn.Module)}
    for i, module in enumerate(modules.values()):
        randomise(module, seed + 1 + i).to(dtype)
    family["pipeline"](**family["components"], **family.get("config", {})).save_pretrained(folder)

    # save_pretrained writes one file per component. The released transformers and language models are sharded.
    for name in ("transformer", "text_encoder", "text_encoder_2"):
        module = family["components"].get(name)
        if module is None or isinstance(module, CLIPTextModel):
            continue
        shutil.rmtree(folder / name)
        if name == "text_encoder" and "causal" in family:
            module = family["causal"].to(dtype)  # Z-Image's file is that of the causal LM: keys begin with "model."
        module.save_pretrained(folder / name, max_shard_size=family["shard"] if name == "transformer" else "64KB")
    for name, (vocab, merges) in family.get("bpe", {}).items():
        write_vocab(folder / name, vocab, merges)

    for path in folder.glob("*/config.json"):
        rewrite_json(path, release_config)
    for path in folder.glob("tokenizer*/tokenizer_config.json"):
        added = json.loads(path.with_name("tokenizer.json").read_text())["added_tokens"]
        decoder = {str(t["id"]): {k: v for k, v in t.items() if k != "id"} for t in added}
        rewrite_json(path, lambda config: {"added_tokens_decoder": decoder, **config})
    if isinstance(modules["text_encoder"], CLIPTextModel):
        path = folder / "text_encoder/model.safetensors"
        tensors = {"text_model." + key: t for key, t in load_file(path).items()}
        save_file(tensors, path, metadata={"format": "pt"})
    released = {name: ["transformers", cls] for name, cls in family.get("names", {}).items()}
    rewrite_json(folder / "model_index.json", lambda index: index | released)


def load_checkpoint(folder):
    """Loads the diffusers pipeline in f32. Copies the weights out of the mapped file: there they may be unaligned, and kernels sum
    unaligned data in another order."""
    pipe = diffusers.DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            for tensor in (*component.parameters(), *component.buffers()):
                tensor.data = tensor.data.clone()
    return pipe


# ------------------------------------------------------------------------------------------------ goldens


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rewrite_json(path, change):
    write_json(path, change(json.loads(path.read_text())))


def write_golden(path, tensors):
    """Writes one safetensors file. Fails if a floating-point value is not finite."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {key: t.detach().contiguous().clone() for key, t in tensors.items()}
    for key, t in tensors.items():
        assert not t.is_floating_point() or t.isfinite().all(), f"{path.name}: {key} is not finite"
    save_file(tensors, path)


def to_uint8(picture):
    """−1…1 → 0…255, rounded as diffusers does. [3, h, w] → [h, w, 3]."""
    return ((picture * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)


def check_picture(name, pixels):
    """Fails on a black, white or constant picture: such a golden tests nothing."""
    values = pixels.float()
    clipped = ((values == 0) | (values == 255)).float().mean().item()
    assert values.std() > 8 and clipped < 0.5, f"{name}: std {values.std():.1f}, clipped {clipped:.0%}"


def size_of(folder):
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
