"""Extractive question answering: finds the part of a context that answers a question (Rajpurkar et al. 2016)."""

import json
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from .shared import padding
from .shared.two_texts import special_tokens
from .shared.types import Batch, Columns, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"context": "string", "question": "string", "answer": "span"}
INPUTS = ("context", "question")
TARGET = "answer"
LABELED = False
ENCODES_TARGET = False
OUTPUTS = {"answer": "string", "start": "number", "score": "number"}
METRICS = ("f1", "exact_match")
IGNORED = -100  # label of an answer that was cut off
LONGEST = 40  # maximum tokens of an answer
ARTICLES = re.compile(r"\b(a|an|the)\b")


class Options(BaseModel):
    """The part of a context that answers a question. Columns: `context`, `question`, `answer`.

    An answer is a text from the context, JSON `{"start": 17, "text": "..."}`, or SQuAD's `answers`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["question-answering"] = Field("question-answering", description="Name of the objective.")
    max_length: int = Field(384, ge=16, description="Maximum tokens of question and context; a longer context is cut.")


class Answer(TypedDict):
    """A known answer, as the column holds it in JSON: a part of the context, and where it starts if that is known."""

    start: int | None
    text: str


class Example(TokenExample):
    """A question and its context.

    Args:
        starts: of each token in the context, -1 for one that is not in it.
        ends: of each token in the context.
        characters: of the context.
        labels: the first and the last token of the answer.
    """

    starts: Ids
    ends: Ids
    characters: Ids
    labels: NotRequired[list[int]]


class Prediction(TypedDict):
    """The likeliest answer, where in the context it starts, and its probability."""

    answer: str
    start: float
    score: float


def find_problems(
    inputs: Sequence[Sequence[str | None]], targets: Sequence[str | None], options: Options
) -> list[str | None]:
    """Find answers that are not in their context."""
    return [_find_problem(context, target) for (context, _), target in zip(inputs, targets, strict=True)]


def _find_problem(context: str | None, target: str | None) -> str | None:
    if context is None or target is None:
        return None  # missing values are reported elsewhere
    answer: Answer = json.loads(target)
    start = answer["start"]
    text = answer["text"]
    if not text.strip():
        return "the answer is empty"
    if start is None:
        return None if text in context else f"the answer {text[:40]!r} is not in the context"
    if context[start : start + len(text)] == text and start >= 0:
        return None
    return f"the answer {text[:40]!r} is not at {start} in the context of {len(context)} characters"


def encode(inputs: Sequence[Sequence[str]], tokenizer: "PreTrainedTokenizerBase", options: Options) -> Columns:
    """Encode question and context as token ids, with the bounds of each token in the context (-1: not in it).

    The context's characters are kept too: answers are cut out of them.
    """
    before, between, behind = special_tokens(tokenizer)
    settings = {"add_special_tokens": False, "return_attention_mask": False, "return_token_type_ids": False}
    questions = tokenizer([question for _, question in inputs], verbose=False, **settings)["input_ids"]
    contexts = tokenizer([context for context, _ in inputs], verbose=False, return_offsets_mapping=True, **settings)
    names = ("input_ids", "full_length", "starts", "ends", "characters")
    encoded: dict[str, list[int | list[int]]] = {name: [] for name in names}
    frame_size = len(before) + len(between) + len(behind)
    for row, question in enumerate(questions):
        cut_question = question[: (options.max_length - frame_size) // 2]
        room = options.max_length - frame_size - len(cut_question)
        ids = contexts["input_ids"][row][:room]
        offsets = contexts["offset_mapping"][row][:room]
        head = len(before) + len(cut_question) + len(between)
        tail = len(behind)
        encoded["input_ids"].append([*before, *cut_question, *between, *ids, *behind])
        for side, name in enumerate(("starts", "ends")):
            encoded[name].append([-1] * head + [pair[side] for pair in offsets] + [-1] * tail)
        encoded["full_length"].append(frame_size + len(question) + len(contexts["input_ids"][row]))
        encoded["characters"].append([ord(sign) for sign in inputs[row][0]])
    return encoded


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new head of two outputs per token: an answer begins or ends here."""
    import torch
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(
        path, num_labels=2, dtype=torch.float32, ignore_mismatched_sizes=True, trust_remote_code=False
    )


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoModelForTokenClassification

    return AutoModelForTokenClassification.from_pretrained(path, dtype=torch.float32, trust_remote_code=False)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; without a target for serving."""
    row: Example = {
        "input_ids": encoded["input_ids"],
        "starts": encoded["starts"],
        "ends": encoded["ends"],
        "characters": encoded["characters"],
    }
    if target is None:
        return row
    answer: Answer = json.loads(target)
    start = answer["start"]
    if start is None:
        start = "".join(map(chr, encoded["characters"])).find(answer["text"])
    return {**row, "labels": _find_tokens(encoded, start, start + len(answer["text"]))}


def _find_tokens(encoded: EncodedRow, start: int, end: int) -> list[int]:
    """The first and the last token of the answer."""
    starts = np.asarray(encoded["starts"])
    ends = np.asarray(encoded["ends"])
    inside = np.flatnonzero((starts < end) & (ends > start) & (starts >= 0))
    if not len(inside) or ends[inside[-1]] < end:  # cut off
        return [IGNORED, IGNORED]
    return [int(inside[0]), int(inside[-1])]


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask` (rows, length), `labels` (rows, 2)."""
    import torch

    batch = padding.pad_inputs(examples, pad_id)
    if "labels" in examples[0]:
        batch["labels"] = torch.tensor([item["labels"] for item in examples])
    return batch


def compute_loss(
    logits: "torch.Tensor", labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
) -> "torch.Tensor":
    """Compute cross-entropy of first and last token, summed over the rows.

    Padding is not masked, as in the usual model, which soon learns that no answer is there.
    """
    import torch

    flat_logits = logits.float().transpose(1, 2).flatten(0, 1)
    return torch.nn.functional.cross_entropy(
        flat_logits, labels.flatten(), reduction="sum", label_smoothing=smoothing, ignore_index=IGNORED
    )


def decode(
    logits: "torch.Tensor", examples: Sequence[Example], names: Sequence[str], conventions: Mapping[str, object]
) -> list[Prediction]:
    """Predict the likeliest span of at most `LONGEST` tokens in each context, and its probability."""
    scores = logits.float().cpu().numpy()
    return [_find_best_span(scores[row], item) for row, item in enumerate(examples)]


def _find_best_span(logits: NDArray[np.float32], item: Example) -> Prediction:
    starts = np.asarray(item["starts"])
    ends = np.asarray(item["ends"])
    inside = np.flatnonzero(starts >= 0)
    if not len(inside):
        return {"answer": "", "start": 0.0, "score": 0.0}
    begin, end = (logits[inside, side] - np.logaddexp.reduce(logits[inside, side]) for side in (0, 1))
    size = len(inside)
    gap = np.arange(size)[None, :] - np.arange(size)[:, None]
    total = np.where((gap >= 0) & (gap < LONGEST), begin[:, None] + end[None, :], -np.inf)
    first, last = np.unravel_index(int(total.argmax()), total.shape)
    start = int(starts[inside[first]])
    stop = int(ends[inside[last]])
    answer = "".join(map(chr, item["characters"][start:stop]))
    return {"answer": answer, "start": float(start), "score": float(np.exp(total[first, last]))}


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict the commonest answer for every row."""
    top = Counter(json.loads(target)["text"] for target in targets).most_common(1)[0][0]
    return [{"answer": top, "start": 0.0, "score": 1.0} for _ in targets]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row 1, F1 of the words, and exact match, as SQuAD counts them, (rows, 3)."""
    counts = np.ones((len(targets), 3))
    for row, (target, prediction) in enumerate(zip(targets, predictions, strict=True)):
        target_words = _normalize_words(json.loads(target)["text"])
        answer_words = _normalize_words(prediction["answer"])
        common = sum((Counter(target_words) & Counter(answer_words)).values())
        score = (
            2 * common / (len(target_words) + len(answer_words))
            if target_words and answer_words
            else float(target_words == answer_words)
        )
        counts[row, 1:] = (score if np.isfinite(prediction["score"]) else np.nan), target_words == answer_words
    return counts


def _normalize_words(text: str) -> list[str]:
    """The words in lower case, without articles and punctuation (Rajpurkar et al. 2016, section 6.1)."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return ARTICLES.sub(" ", bare).split()


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 3) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {"f1": sums[..., 1] / sums[..., 0], "exact_match": sums[..., 2] / sums[..., 0]}


def score_outputs(
    logits: "torch.Tensor",
    examples: Sequence[Example],
    targets: Sequence[str],
    names: Sequence[str],
    classes: int,
) -> "RowScores":
    """Score each row by the probabilities of its answer's first and last token, of those of the context."""
    from evertune.objectives.shared import proper_scores

    scores = [
        _score_ends(row_logits, {**item, **make_example(cast(EncodedRow, item), target, {})})
        for row_logits, item, target in zip(logits.double().cpu().numpy(), examples, targets, strict=True)
    ]
    log, brier = (np.stack(values) for values in zip(*scores, strict=True))
    return proper_scores.RowScores(log, brier, np.ones(len(scores)))


def _score_ends(logits: Floats, item: Example) -> tuple[Floats, Floats]:
    """Scores of a row's first and last token, each (temperatures,); an answer that was cut off may be anywhere."""
    from evertune.objectives.shared import proper_scores

    inside = np.flatnonzero(np.asarray(item["starts"]) >= 0)
    if not len(inside):
        return np.zeros(len(proper_scores.TEMPERATURES)), np.zeros(len(proper_scores.TEMPERATURES))
    sides = []
    for side, token in enumerate(item["labels"]):
        side_logits = np.zeros(len(inside)) if token == IGNORED else logits[inside, side]
        truth = 0 if token == IGNORED else int(np.searchsorted(inside, token))
        positions = [str(index) for index in range(len(inside))]
        sides.append(proper_scores.score_classes(side_logits[None], [str(truth)], positions, len(inside)))
    log, brier = (sum(values)[0] / 2 for values in zip(*sides, strict=True))
    return log, brier
