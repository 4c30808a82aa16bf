"""A tiny decoder with random weights in a GGUF file, as llama.cpp writes them."""

from pathlib import Path
from typing import Any

import numpy as np

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,!?-'"
SIZE = 32
LAYERS = 2
INNER = 64
HEADS = 2
CONTEXT = 64


def vocabulary() -> list[str]:
    """Two special tokens, a space, letters with and without a space before."""
    return ["<end>", "<start>", "Ġ", *LETTERS, *(f"Ġ{one}" for one in LETTERS)]


def write_gguf(file: Path, architecture: str = "llama") -> Path:
    from gguf import GGUFWriter, TokenType

    writer = GGUFWriter(file, architecture)
    words = vocabulary()
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(SIZE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(words) - 2))
    writer.add_token_merges([f"Ġ {one}" for one in LETTERS])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(0)
    for name, shape in _shapes(len(words)).items():
        writer.add_tensor(name, _values(name, shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _shapes(words: int) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (words, SIZE), "output_norm.weight": (SIZE,)}
    for layer in range(LAYERS):
        parts = {
            "attn_norm": (SIZE,),
            "ffn_norm": (SIZE,),
            "attn_q": (SIZE, SIZE),
            "attn_k": (SIZE // HEADS, SIZE),
            "attn_v": (SIZE // HEADS, SIZE),
            "attn_output": (SIZE, SIZE),
            "ffn_gate": (INNER, SIZE),
            "ffn_up": (INNER, SIZE),
            "ffn_down": (SIZE, INNER),
        }
        found |= {f"blk.{layer}.{name}.weight": shape for name, shape in parts.items()}
    return found


def _values(name: str, shape: tuple[int, ...]) -> Any:
    if "norm" in name:
        return np.ones(shape, dtype=np.float32)
    return np.random.default_rng(len(name) + sum(map(ord, name))).normal(0, 0.1, shape).astype(np.float32)
