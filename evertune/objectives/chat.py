"""Instruction and dialogue tuning: the answer to a prompt, under the tokenizer's chat template."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from . import causal_lm
from .shared import generated_text as text

COLUMNS = {"prompt": "string", "answer": "string"}
INPUTS, TARGET = ("prompt",), "answer"
LABELED, ENCODES_TARGET, ASSESSED = False, True, True
TRAVELS_WITH = ("shared.generated_text", "causal_lm")
OUTPUTS = {"answer": "string"}
METRICS = ("bits_per_byte", "perplexity", "rouge_l", "exact_match", *text.WRITTEN)
BASE_MODEL = "package:evertune/models/gpt2_bytes"
STARTS_AT_RANDOM = True
WITHOUT = text.WITHOUT
LOWER_IS_BETTER = text.FALLING
NO_SHARES = text.LIKELIHOODS


class Options(text.Written):
    """The answer to a prompt. Columns: `prompt` (a text, or a dialogue as JSON messages), `answer`."""

    type: Literal["chat"] = Field("chat", description="Name of the objective.")
    max_length: int = Field(512, ge=16, description="Tokens of prompt and answer. A longer prompt loses its beginning.")
    system: str = Field("", description="What the model is told before each prompt.")
    answered: float = Field(
        0.2, ge=0, le=1, description="Share of the known rows whose prompt the model answers, to be measured."
    )

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError(text.NO_ROOM.format(self.max_new_tokens, self.max_length))
        return self


build, load, loss = causal_lm.build, causal_lm.load, causal_lm.loss


def unfit(path: Path) -> str | None:
    """Why a base model cannot be used, None where it can."""
    config, template = path / "tokenizer_config.json", path / "chat_template.jinja"
    stated = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if config.is_file() and not template.is_file() and not stated.get("chat_template"):
        return "has a tokenizer without chat template; choose an instruction-tuned model, or add a chat_template.jinja"
    return causal_lm.unfit(path)


def problems(inputs: Sequence[str | None], targets: Sequence[str | None], options: Options) -> list[str | None]:
    """Where a dialogue cannot be told, or an answer is empty."""
    return [_problem(prompt, target) for prompt, target in zip(inputs, targets, strict=True)]


def _problem(prompt: str | None, target: str | None) -> str | None:
    if target is not None and not target.strip():
        return "the answer is empty"
    if prompt is None:
        return None  # is told elsewhere
    try:
        said = _messages(prompt, "")
    except ValueError as error:
        return f"the prompt is no dialogue: {error}"
    return "the prompt's last message is the assistant's own" if said[-1]["role"] == "assistant" else None


def _messages(prompt: str, system: str) -> list[dict[str, str]]:
    """A text as a user's message, or a dialogue from JSON `[{"role": "user", "content": "..."}, ...]`.

    Raises:
        ValueError: a message has no role, or no text.
    """
    said = [{"role": "user", "content": prompt}]
    if prompt.lstrip().startswith('[{"'):
        said = json.loads(prompt)
        if not all(isinstance(one, dict) and {"role", "content"} <= one.keys() for one in said):
            raise ValueError('each message needs a "role" and a "content"')
        if not all(isinstance(one[key], str) for one in said for key in ("role", "content")):
            raise ValueError("the role and the content of a message are texts")
    told = bool(system) and said[0]["role"] != "system"
    return [{"role": "system", "content": system}, *said] if told else said


def encode(
    inputs: Sequence[str], tokenizer: Any, options: Options, targets: Sequence[str] | None = None
) -> dict[str, list[Any]]:
    """Token ids of prompts under the template, and behind each its answer where that is known."""
    dialogues = [_messages(prompt, options.system) for prompt in inputs]
    told = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in dialogues]
    prompts, end = text.plain(tokenizer, told), text.turn_end(tokenizer)
    answers = text.plain(tokenizer, targets) if targets is not None else [[]] * len(prompts)
    found: dict[str, list[Any]] = {name: [] for name in ("input_ids", "full_length", "prompt_length", "judged")}
    for prompt, answer in zip(prompts, answers, strict=True):
        behind = [*answer, end] if targets is not None else []
        kept = behind[: options.max_length - min(len(prompt), options.max_length // 2)]
        room = options.max_length - (len(kept) or options.max_new_tokens)
        found["input_ids"].append([*prompt[-room:], *kept])
        found["full_length"].append(len(prompt) + len(behind))
        found["prompt_length"].append([min(len(prompt), room)])
        found["judged"].append([int(text.chosen(prompt, options.answered))])
    return found


label_values, conventions, report, pairs = (
    causal_lm.label_values, causal_lm.conventions, causal_lm.report, causal_lm.pairs,
)  # fmt: skip


def example(encoded: Mapping[str, Any], target: str | None, label_ids: Mapping[str, int]) -> dict[str, Any]:
    """One row as `collate` takes it; without a target a prompt alone."""
    row = {"input_ids": encoded["input_ids"]}
    if target is None:
        return row
    start = int(encoded["prompt_length"][0])
    known = {"start": start, "labels": len(row["input_ids"]) - start, "bytes": len(target.encode())}
    return {**row, **known, "judged": bool(encoded["judged"][0])}


def collate(examples: Sequence[Mapping[str, Any]], pad_id: int) -> dict[str, Any]:
    """Pad to the longest: `input_ids`, `attention_mask`, `labels` (rows, length), which the prompt has none of."""
    ids = [one["input_ids"] for one in examples]
    batch = {"input_ids": text.padded(ids, pad_id), "attention_mask": text.mask_of(ids)}
    if "labels" in examples[0]:
        labels = [[text.IGNORED] * one["start"] + list(one["input_ids"][one["start"] :]) for one in examples]
        batch["labels"] = text.padded(labels, text.IGNORED)
    return batch


def answer(
    model: Any, batch: dict[str, Any], examples: Sequence[Mapping[str, Any]], names: Sequence[str],
    conventions: Mapping[str, Any],
) -> tuple[list[dict[str, Any]], float]:  # fmt: skip
    """Answers to prompts; where the right ones are known, how likely each is, and answers to some."""
    if "labels" not in batch:
        return decode(model, examples, names, conventions), 0.0
    nats = [float(one) for part in text.parts(batch, model.config.vocab_size) for one in causal_lm.nats(model, part)]
    judged = [place for place, one in enumerate(examples) if one["judged"]]
    prompts = [examples[place]["input_ids"][: examples[place]["start"]] for place in judged]
    said = dict(zip(judged, text.written(model, prompts), strict=True))
    found = [
        {"answer": said.get(place), "nats": nats[place], "tokens": one["labels"], "bytes": one["bytes"]}
        for place, one in enumerate(examples)
    ]
    return found, sum(nats)


def decode(
    model: Any, examples: Sequence[Mapping[str, Any]], names: Sequence[str], conventions: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What the model answers to each prompt."""
    return [{"answer": one.strip()} for one in text.written(model, [one["input_ids"] for one in examples])]


def majority(targets: Sequence[str]) -> list[dict[str, Any]]:
    """The commonest answer for every row; its likelihood is that of its bytes, whatever stands before them."""
    top = Counter(targets).most_common(1)[0][0]
    return [
        {"answer": top, "nats": nats, "tokens": len(one.encode()) + 1, "bytes": len(one.encode())}
        for one, nats in zip(targets, text.of_bytes(targets), strict=True)
    ]


def statistics(targets: Sequence[str], predictions: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Any:
    """Sums of each row, (rows, 9): nats, tokens, bytes; 1 if it was answered, and then overlap, match, variety."""
    rows = []
    for target, one in zip(targets, predictions, strict=True):
        said = one["answer"]
        row = (0.0,) * 6 if said is None else (1.0, *text.overlap(target, said), *text.variety(said))
        rows.append([one["nats"], one["tokens"], one["bytes"], *row])
    return np.array(rows, dtype=np.float64).reshape(len(rows), 9)


def metrics(sums: Any, names: Sequence[str]) -> dict[str, Any]:
    """Metrics of weighted sums of `statistics`, (..., 9) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    return {**text.likelihood(sums[..., :3]), **text.shares(sums[..., 3:], METRICS[2:])}


def sample(given: str, target: str, said: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """A prompt, its answer, and the model's; None where it was not asked."""
    return None if said["answer"] is None else (given, target, said["answer"])
