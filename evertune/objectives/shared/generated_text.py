"""What objectives that write text share: models that may start at random, generation, and measures of its output."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .padding import make_mask, pad_rows
from .types import Batch, Floats, Ids

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # label that the loss ignores
LOGITS = 1 << 25  # logits that are converted to fp32 at a time: 128 MB
REPEATED = 4  # words of a passage that can count as repeated (Welleck et al. 2020, section 4)
FALLING_METRICS = ("bits_per_byte", "perplexity", "repetition")
LIKELIHOOD_METRICS = ("bits_per_byte", "perplexity")
NO_ROOM = "max_new_tokens {} leaves no room for a prompt in max_length {}; lower max_new_tokens or raise max_length"
IGNORED_SETTINGS = {"head_learning_rate": "the base model's own output layer is used, there is no new head"}
VARIETY_METRICS = ("distinct_1", "distinct_2", "repetition")


class GenerationOptions(BaseModel):
    """Options of text generation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_new_tokens: int = Field(64, ge=1, description="Maximum tokens to generate.")
    temperature: float = Field(
        0.0, ge=0, le=2, description="Sampling temperature; 0: greedy, so that every output can be reproduced."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="With a temperature: sample from the likeliest tokens with this total probability."
    )


def build_model(kind: str, path: str | Path, options: GenerationOptions, **more: object) -> "PreTrainedModel":
    """Build a model from base weights in fp32, or at random from a folder with a configuration only.

    Args:
        kind: name of the class in `transformers`.
        path: folder or hub id of the base model.
        options: `GenerationOptions`.
        more: further settings of generation.
    """
    import torch
    import transformers

    if _has_weights(Path(path)):
        model = getattr(transformers, kind).from_pretrained(path, dtype=torch.float32, trust_remote_code=False)
    else:
        config = transformers.AutoConfig.from_pretrained(path, trust_remote_code=False)
        model = getattr(transformers, kind).from_config(config, dtype=torch.float32, trust_remote_code=False)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    sampling = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p}
    model.generation_config = transformers.GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=sorted({get_end_token(tokenizer), get_turn_end(tokenizer)}),
        decoder_start_token_id=model.config.decoder_start_token_id if model.config.is_encoder_decoder else None,
        **(sampling if options.temperature else {}),
        **more,
    )
    model.tokenizer = tokenizer  # decodes what the model generates
    return model


def load_model(kind: str, path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved, and its tokenizer.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    import transformers

    model = getattr(transformers, kind).from_pretrained(path, dtype=torch.float32, trust_remote_code=False)
    model.tokenizer = transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    return model


def _has_weights(folder: Path) -> bool:
    """Whether a base model has weights; `transformers` finds those of a hub id."""
    return not folder.is_dir() or any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))


def explain_unfit(path: Path, kind: str) -> str | None:
    """Explain from its configuration why a model cannot generate text; None if it can, or nothing is stated.

    Args:
        path: folder of the model.
        kind: `decoder` or `encoder-decoder`.
    """
    file = path / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    name = " ".join(config.get("architectures") or [])
    has_encoder = bool(config.get("is_encoder_decoder"))
    is_writer = (
        has_encoder if kind == "encoder-decoder" else name.endswith(("LMHeadModel", "ForCausalLM")) and not has_encoder
    )
    if not name or is_writer:
        return None
    example = {"decoder": "gpt2_bytes", "encoder-decoder": "t5_bytes"}[kind]
    return f"is a {name}; this objective needs a model of kind {kind}, such as package:evertune/models/{example}"


def get_start_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the token before a text."""
    candidates = (tokenizer.bos_token_id, tokenizer.cls_token_id, tokenizer.eos_token_id)
    return int(next(token_id for token_id in candidates if token_id is not None))


def get_end_token(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the token after a text."""
    return int(tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id)


def get_turn_end(tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return the token after an answer: ChatML's own if the tokenizer has it."""
    return int(tokenizer.get_vocab().get("<|im_end|>", get_end_token(tokenizer)))


def is_selected(ids: Sequence[int], share: float) -> bool:
    """Whether a text belongs to a random share of all texts: the same in every run, by a hash of its tokens."""
    return (sum(ids) * 2654435761 >> 8) % 1000 < 1000 * share


def tokenize_texts(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """Encode texts as token ids, without special tokens."""
    settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    ids: list[list[int]] = tokenizer(list(texts), verbose=False, **settings)["input_ids"] if texts else []
    return ids


def compute_loss(logits: "torch.Tensor", labels: "torch.Tensor", smoothing: float = 0.0) -> "torch.Tensor":
    """Compute summed cross-entropy of aligned logits and labels, in fp32 a part at a time to save memory."""
    import torch
    from torch.utils.checkpoint import checkpoint

    def part_loss(some_logits: torch.Tensor, some_labels: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(
            some_logits.float(), some_labels, reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED
        )

    flat_logits = logits.flatten(0, 1)
    flat_labels = labels.flatten()
    size = max(1, LOGITS // logits.shape[-1])
    if len(flat_logits) <= size:
        return part_loss(flat_logits, flat_labels)
    pairs = zip(torch.split(flat_logits, size), torch.split(flat_labels, size), strict=True)
    total: torch.Tensor = sum(
        checkpoint(part_loss, some_logits, some_labels, use_reentrant=False) for some_logits, some_labels in pairs
    )
    return total


def compute_nats(logits: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
    """Compute the summed cross-entropy of each row, (rows,)."""
    import torch

    each = torch.nn.functional.cross_entropy(
        logits.float().transpose(1, 2), labels, reduction="none", ignore_index=IGNORED
    )
    return each.sum(1)


def split_batch(batch: Mapping[str, "torch.Tensor"], vocabulary: int) -> Iterator[Batch]:
    """Yield the rows of a batch, as many at a time as fit into memory with their logits."""
    rows = max(1, LOGITS // (vocabulary * batch["labels"].shape[1]))
    for start in range(0, len(batch["labels"]), rows):
        yield {name: value[start : start + rows] for name, value in batch.items()}


def continue_prompts(model: "PreTrainedModel", prompts: Sequence[Ids]) -> list[str]:
    """Continue each prompt, without repeating it; a prompt that is too long is cut at its beginning."""
    if not prompts:
        return []
    limit = getattr(model.config, "max_position_embeddings", None)
    new_tokens = model.generation_config.max_new_tokens
    cut_prompts = [list(prompt) if limit is None else list(prompt)[-max(1, limit - new_tokens) :] for prompt in prompts]
    ids = pad_rows(cut_prompts, model.generation_config.pad_token_id, left=True).to(model.device)
    output_ids = generate_ids(model, input_ids=ids, attention_mask=make_mask(cut_prompts, left=True).to(model.device))
    return decode_texts(model, output_ids[:, ids.shape[1] :])


def generate_ids(model: "PreTrainedModel", **inputs: "torch.Tensor") -> "torch.Tensor":
    """Generate token ids by the model's generation settings; sampling always uses the same seed."""
    import torch

    is_drawn = model.generation_config.do_sample
    with torch.random.fork_rng(enabled=is_drawn) if is_drawn else contextlib.nullcontext():
        if is_drawn:
            torch.manual_seed(0)
        output_ids: torch.Tensor = model.generate(**inputs)
        return output_ids


def decode_texts(model: "PreTrainedModel", ids: "torch.Tensor") -> list[str]:
    """Decode token ids to texts, without special tokens."""
    texts: list[str] = model.tokenizer.batch_decode(ids, skip_special_tokens=True)
    return texts


def measure_variety(text: str) -> tuple[float, float, float]:
    """Return shares of distinct words and word pairs (Li et al. 2016, section 5.2), and of repeated passages."""
    words = text.split()
    distinct_words, distinct_pairs, distinct_passages = (_distinct_share(words, size) for size in (1, 2, REPEATED))
    return distinct_words, distinct_pairs, 1 - distinct_passages


def _distinct_share(words: Sequence[str], size: int) -> float:
    passages = [tuple(words[start : start + size]) for start in range(len(words) - size + 1)]
    return len(set(passages)) / len(passages) if passages else 1.0


def measure_overlap(target: str, output: str) -> tuple[float, float]:
    """Return ROUGE-L's F1 of the words (Lin 2004, section 3), and whether both texts are equal but for white space."""
    target_words = target.lower().split()
    output_words = output.lower().split()
    common = _common_length(target_words, output_words)
    score = 2 * common / (len(target_words) + len(output_words)) if target_words or output_words else 1.0
    return score, float(target.split() == output.split())


def _common_length(words: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in words:
        before = 0
        for index, other_word in enumerate(other, 1):
            before, row[index] = row[index], before + 1 if word == other_word else max(row[index], row[index - 1])
    return row[-1]


def compute_likelihood(sums: Floats) -> dict[str, Floats]:
    """Compute bits per byte and perplexity from sums of nats, tokens and bytes, (..., 3)."""
    nats, tokens, size = (sums[..., index] for index in range(3))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {"bits_per_byte": nats / size / np.log(2), "perplexity": np.exp(nats / tokens)}


def compute_means(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute means from sums (..., 1 + names), the first of which is the number of rows."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return {name: sums[..., index] / sums[..., 0] for index, name in enumerate(names, 1)}


def compute_byte_nats(targets: Sequence[str]) -> list[float]:
    """Compute the nats of each text and its end by byte frequency in all texts: a baseline without context."""
    counts = np.zeros(257)
    byte_rows = [np.frombuffer(text.encode(), dtype=np.uint8) for text in targets]
    for byte_row in byte_rows:
        counts += np.append(np.bincount(byte_row, minlength=256), 1)
    with np.errstate(divide="ignore"):
        price = -np.log(counts / counts.sum())
    return [float(price[byte_row].sum() + price[256]) for byte_row in byte_rows]
