"""Instruction and dialogue tuning: answers a prompt, with the tokenizer's chat template."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, Self, TypedDict

import numpy as np
from pydantic import Field, model_validator

from . import causal_lm
from .shared import generated_text, padding
from .shared.types import Batch, Columns, EncodedRow, Floats, TokenExample

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"prompt": "string", "answer": "string"}
INPUTS = ("prompt",)
TARGET = "answer"
LABELED = False
ENCODES_TARGET = True
ASSESSED = True
OUTPUTS = {"answer": "string"}
METRICS = ("bits_per_byte", "perplexity", "rouge_l", "exact_match", *generated_text.VARIETY_METRICS)
BASE_MODEL = "package:evertune/models/gpt2_bytes"
STARTS_AT_RANDOM = True
IGNORED_SETTINGS = generated_text.IGNORED_SETTINGS
LOWER_IS_BETTER = generated_text.FALLING_METRICS
ABSOLUTE_METRICS = generated_text.LIKELIHOOD_METRICS


class Options(generated_text.GenerationOptions):
    """The answer to a prompt. Columns: `prompt` (a text, or a dialogue as JSON messages), `answer`."""

    type: Literal["chat"] = Field("chat", description="Name of the objective.")
    max_length: int = Field(
        512, ge=16, description="Maximum tokens of prompt and answer; a longer prompt is cut at its beginning."
    )
    system: str = Field("", description="System message before each prompt.")
    answered: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of the evaluated rows whose prompt the model answers, to measure its output.",
    )

    @model_validator(mode="after")
    def _check_room(self) -> Self:
        if self.max_new_tokens >= self.max_length:
            raise ValueError(generated_text.NO_ROOM.format(self.max_new_tokens, self.max_length))
        return self


class Example(TokenExample):
    """A prompt, with its answer where that is known.

    Args:
        start: of the answer.
        labels: number of its tokens.
        bytes: of the answer.
        judged: whether the model answers this prompt, to measure its output.
    """

    start: NotRequired[int]
    labels: NotRequired[int]
    bytes: NotRequired[int]
    judged: NotRequired[bool]


class Prediction(TypedDict):
    """The answer, None where the model gave none; with a known answer its likelihood."""

    answer: str | None
    nats: NotRequired[float]
    tokens: NotRequired[int]
    bytes: NotRequired[int]


build_model = causal_lm.build_model
load_model = causal_lm.load_model
compute_loss = causal_lm.compute_loss


def explain_unfit(path: Path) -> str | None:
    """Explain why a base model cannot be used; None if it can."""
    config = path / "tokenizer_config.json"
    template = path / "chat_template.jinja"
    stated = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if config.is_file() and not template.is_file() and not stated.get("chat_template"):
        return "its tokenizer has no chat template; choose an instruction-tuned model, or add a chat_template.jinja"
    return causal_lm.explain_unfit(path)


def find_problems(inputs: Sequence[str | None], targets: Sequence[str | None], options: Options) -> list[str | None]:
    """Find malformed dialogues and empty answers."""
    return [_find_problem(prompt, target) for prompt, target in zip(inputs, targets, strict=True)]


def _find_problem(prompt: str | None, target: str | None) -> str | None:
    if target is not None and not target.strip():
        return "the answer is empty"
    if prompt is None:
        return None  # missing values are reported elsewhere
    try:
        messages = _parse_messages(prompt, "")
    except ValueError as error:
        return f"the prompt is not a dialogue: {error}"
    return "the last message of the prompt is by the assistant" if messages[-1]["role"] == "assistant" else None


def _parse_messages(prompt: str, system: str) -> list[dict[str, str]]:
    """The messages of a prompt: a text is one by the user, JSON `[{"role": "user", "content": "..."}, ...]` a dialogue.

    Raises:
        ValueError: a message has no role, or no text.
    """
    messages = [{"role": "user", "content": prompt}]
    if prompt.lstrip().startswith('[{"'):
        messages = json.loads(prompt)
        if not all(isinstance(message, dict) and {"role", "content"} <= message.keys() for message in messages):
            raise ValueError('each message needs a "role" and a "content"')
        if not all(isinstance(message[key], str) for message in messages for key in ("role", "content")):
            raise ValueError("the role and the content of a message must be texts")
    needs_system = bool(system) and messages[0]["role"] != "system"
    return [{"role": "system", "content": system}, *messages] if needs_system else messages


def encode(
    inputs: Sequence[str],
    tokenizer: "PreTrainedTokenizerBase",
    options: Options,
    targets: Sequence[str] | None = None,
) -> Columns:
    """Encode prompts with the template as token ids, each followed by its answer where that is known."""
    dialogues = [_parse_messages(prompt, options.system) for prompt in inputs]
    prompt_texts = [
        tokenizer.apply_chat_template(dialogue, tokenize=False, add_generation_prompt=True) for dialogue in dialogues
    ]
    prompts = generated_text.tokenize_texts(tokenizer, prompt_texts)
    end = generated_text.get_turn_end(tokenizer)
    answers = generated_text.tokenize_texts(tokenizer, targets) if targets is not None else [[]] * len(prompts)
    encoded: dict[str, list[int | list[int]]] = {
        name: [] for name in ("input_ids", "full_length", "prompt_length", "judged")
    }
    for prompt, answer in zip(prompts, answers, strict=True):
        answer_ids = [*answer, end] if targets is not None else []
        cut_answer = answer_ids[: options.max_length - min(len(prompt), options.max_length // 2)]
        room = options.max_length - (len(cut_answer) or options.max_new_tokens)
        encoded["input_ids"].append([*prompt[-room:], *cut_answer])
        encoded["full_length"].append(len(prompt) + len(answer_ids))
        encoded["prompt_length"].append([min(len(prompt), room)])
        encoded["judged"].append([int(generated_text.is_selected(prompt, options.answered))])
    return encoded


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target it is a prompt alone."""
    ids = encoded["input_ids"]
    if target is None:
        return {"input_ids": ids}
    start = int(encoded["prompt_length"][0])
    return {
        "input_ids": ids,
        "start": start,
        "labels": len(ids) - start,
        "bytes": len(target.encode()),
        "judged": bool(encoded["judged"][0]),
    }


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask`, `labels`, all (rows, length); prompts have no labels."""
    batch = padding.pad_inputs(examples, pad_id)
    if "labels" in examples[0]:
        labels = [[generated_text.IGNORED] * row["start"] + list(row["input_ids"][row["start"] :]) for row in examples]
        batch["labels"] = padding.pad_rows(labels, generated_text.IGNORED)
    return batch


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Answer prompts; where the answers are known, compute their likelihood, and answer some prompts."""
    if "labels" not in batch:
        return decode(model, examples, names, conventions), 0.0
    nats = [
        float(cost)
        for part in generated_text.split_batch(batch, model.config.vocab_size)
        for cost in causal_lm.compute_row_nats(model, part)
    ]
    judged_indices = [index for index, row in enumerate(examples) if row["judged"]]
    prompts = [examples[index]["input_ids"][: examples[index]["start"]] for index in judged_indices]
    answers = dict(zip(judged_indices, generated_text.continue_prompts(model, prompts), strict=True))
    predictions: list[Prediction] = [
        {"answer": answers.get(index), "nats": nats[index], "tokens": row["labels"], "bytes": row["bytes"]}
        for index, row in enumerate(examples)
    ]
    return predictions, sum(nats)


def decode(
    model: "PreTrainedModel", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Answer each prompt; takes the model in place of its logits."""
    return [
        {"answer": output.strip()}
        for output in generated_text.continue_prompts(model, [row["input_ids"] for row in examples])
    ]


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the commonest answer for every row, with the likelihood of each answer's bytes by their frequency."""
    top = Counter(targets).most_common(1)[0][0]
    return [
        {"answer": top, "nats": nats, "tokens": len(target.encode()) + 1, "bytes": len(target.encode())}
        for target, nats in zip(targets, generated_text.compute_byte_nats(targets), strict=True)
    ]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row nats, tokens, bytes; 1 if it was answered, then overlap, match, variety, (rows, 9)."""
    rows = []
    for target, prediction in zip(targets, predictions, strict=True):
        output = prediction["answer"]
        row = (
            (0.0,) * 6
            if output is None
            else (1.0, *generated_text.measure_overlap(target, output), *generated_text.measure_variety(output))
        )
        rows.append([prediction["nats"], prediction["tokens"], prediction["bytes"], *row])
    return np.array(rows, dtype=np.float64).reshape(len(rows), 9)


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 9) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    return {
        **generated_text.compute_likelihood(sums[..., :3]),
        **generated_text.compute_means(sums[..., 3:], METRICS[2:]),
    }


def make_excerpt(source: str, target: str, prediction: Prediction) -> tuple[str, str, str] | None:
    """Return a prompt, its answer and the model's; None for prompts not answered."""
    return None if prediction["answer"] is None else (source, target, prediction["answer"])


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by its bits per byte."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(
        [prediction["nats"] / np.log(2) for prediction in predictions],
        [prediction["bytes"] for prediction in predictions],
    )
