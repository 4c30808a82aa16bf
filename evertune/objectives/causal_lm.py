"""Language modelling: a text, token after token; served, it continues a prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from .shared import generated_text as text

COLUMNS = {"text": "string"}
INPUTS, TARGET = ("text",), "text"
LABELED, ENCODES_TARGET, ASSESSED = False, False, True
IN_BLOCKS = True
TRAVELS_WITH = ("shared.generated_text",)
OUTPUTS = {"continuation": "string"}
METRICS = ("bits_per_byte", "perplexity", *text.WRITTEN)
BASE_MODEL = "package:evertune/models/gpt2_bytes"
STARTS_AT_RANDOM = True
WITHOUT = text.WITHOUT
LOWER_IS_BETTER = text.FALLING
NO_SHARES = text.LIKELIHOODS


class Options(text.Written):
    """A text, token after token. Column: `text`. Longer texts are cut into blocks, of which nothing is lost."""

    type: Literal["causal-lm"] = Field("causal-lm", description="Name of the objective.")
    max_length: int = Field(256, ge=4, description="Tokens of a block: the context that the model learns from.")
    continued: float = Field(
        0.1, ge=0, le=1, description="Share of the known texts whose first half the model continues, to be measured."
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError(text.NO_ROOM.format(self.max_new_tokens, self.max_length))
        return self


def unfit(path: Path) -> str | None:
    """Why a base model cannot be used, None where it can."""
    return text.unfit(path, "decoder")


def encode(inputs: Sequence[str], tokenizer: Any, options: Options) -> dict[str, list[Any]]:
    """Token ids of each whole text between its start and end, where its blocks begin, and a prompt to be continued.

    A block begins with the last token of the one before: so every token is foretold once, from within its own text.
    """
    start, end = text.start_of(tokenizer), text.end_of(tokenizer)
    ids = text.plain(tokenizer, inputs)
    step = options.max_length - 1
    return {
        "input_ids": [[start, *one, end] for one in ids],
        "full_length": [len(one) + 2 for one in ids],
        "starts": [list(range(0, len(one) + 1, step)) for one in ids],
        "ends": [[min(first + step + 1, len(one) + 2) for first in range(0, len(one) + 1, step)] for one in ids],
        "prompt": [_prompt(one, start, options) if text.chosen(one, options.continued) else [] for one in ids],
    }


def _prompt(ids: Sequence[int], start: int, options: Options) -> list[int]:
    """The first half of a text, as far as there is room for it."""
    return [start, *ids[: min((len(ids) + 1) // 2, options.max_length - options.max_new_tokens - 1)]]


def label_values(targets: Sequence[str]) -> list[str]:
    """None: a text is no label."""
    return []


def conventions(targets: Sequence[str]) -> dict[str, Any]:
    """Nothing."""
    return {}


def build(path: str | Path, labels: Sequence[str], options: Options) -> Any:
    """Base weights in fp32, or where there is only a configuration, weights drawn at random."""
    return text.build("AutoModelForCausalLM", path, options)


def load(path: str | Path) -> Any:
    """A tuned model, as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    return text.load("AutoModelForCausalLM", path)


def example(encoded: Mapping[str, Any], target: str | None, label_ids: Mapping[str, int]) -> dict[str, Any]:
    """One row as `collate` takes it; without a target a prompt, whose end is open, and of a long one the end alone."""
    if target is None:
        return {"input_ids": encoded["input_ids"][:-1][-encoded["ends"][0] :]}
    known = {name: encoded[name] for name in ("input_ids", "starts", "ends", "prompt")}
    return {**known, "labels": len(encoded["input_ids"]) - 1, "bytes": len(target.encode())}


def collate(examples: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Any]:
    """The blocks of all texts, each text's one behind the other: `input_ids`, `attention_mask`, `labels` (blocks,
    length). Labels are those of the same place, as in `transformers`; a block's first token has none."""
    blocks = [part for one in examples for part in _blocks(one)]
    batch = {"input_ids": text.padded(blocks, pad_id), "attention_mask": text.mask_of(blocks)}
    if "labels" in examples[0]:
        batch["labels"] = text.padded([[text.IGNORED, *one[1:]] for one in blocks], text.IGNORED)
    return batch


def _blocks(one: Mapping[str, Any]) -> list[Sequence[int]]:
    if "starts" not in one:
        return [one["input_ids"]]
    return [one["input_ids"][start:end] for start, end in zip(one["starts"], one["ends"], strict=True)]


def loss(logits: Any, labels: Any, weights: Any = None, smoothing: float = 0.0) -> Any:
    """Cross-entropy of each token but the first, summed over all of them."""
    return text.loss(logits[:, :-1], labels[:, 1:], smoothing)


def answer(
    model: Any, batch: dict[str, Any], examples: Sequence[Mapping[str, Any]], names: Sequence[str],
    conventions: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], float]:  # fmt: skip
    """Continuations of prompts; of known texts how likely each is, and continuations of some."""
    if "labels" not in batch:
        return decode(model, examples, names, conventions), 0.0
    each = [float(one) for part in text.parts(batch, model.config.vocab_size) for one in nats(model, part)]
    ends = np.cumsum([len(one["starts"]) for one in examples])
    known = [sum(each[end - len(one["starts"]) : end]) for one, end in zip(examples, ends, strict=True)]
    chosen = [place for place, one in enumerate(examples) if len(one["prompt"])]
    said = dict(zip(chosen, text.written(model, [examples[place]["prompt"] for place in chosen]), strict=True))
    found = [
        {"continuation": said.get(place), "nats": total, "tokens": one["labels"], "bytes": one["bytes"],
         "prompt": model.tokenizer.decode(one["prompt"][1:]) if place in said else None}
        for place, (one, total) in enumerate(zip(examples, known, strict=True))
    ]  # fmt: skip
    return found, sum(known)


def nats(model: Any, part: dict[str, Any]) -> Any:
    """(rows,) how unlikely the model finds the labels of each."""
    labels = part.pop("labels")
    return text.surprise(model(**part).logits[:, :-1], labels[:, 1:])


def decode(
    model: Any, examples: Sequence[Mapping[str, Any]], names: Sequence[str], conventions: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What the model writes behind each prompt."""
    return [{"continuation": one} for one in text.written(model, [one["input_ids"] for one in examples])]


def majority(targets: Sequence[str]) -> list[dict[str, Any]]:
    """How often each byte stands in the texts, whatever stands before it."""
    return [
        {"continuation": None, "nats": nats, "tokens": len(one.encode()) + 1, "bytes": len(one.encode())}
        for one, nats in zip(targets, text.of_bytes(targets), strict=True)
    ]


def statistics(targets: Sequence[str], predictions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Sums of each row, (rows, 7): nats, tokens, bytes; 1 if it was continued, and then variety and repetition."""
    rows = []
    for one in predictions:
        said = one["continuation"]
        rows.append([one["nats"], one["tokens"], one["bytes"],
                     *((0.0,) * 4 if said is None else (1.0, *text.variety(said)))])  # fmt: skip
    return np.array(rows, dtype=np.float64).reshape(len(rows), 7)


def metrics(sums: Any, names: Sequence[str]) -> dict[str, Any]:
    """Metrics of weighted sums of `statistics`, (..., 7) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    return {**text.likelihood(sums[..., :3]), **text.shares(sums[..., 3:], text.WRITTEN)}


def report(sums: Any, names: Sequence[str]) -> dict[str, Any]:
    """Nothing by class: there are none."""
    return {"per_class": {}, "calibration": []}


def pairs(targets: Sequence[str], predictions: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Nothing: texts are not confused."""
    return [], []


def sample(given: str, target: str, said: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """A prompt, how its text went on, and how the model continues it; None where it was not asked."""
    prompt = said["prompt"]
    return None if prompt is None else (prompt, target[len(prompt) :], said["continuation"])
