"""The model that a training starts from: base or champion, with a head for the labels and the method's weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evertune.config.methods import FULL
from evertune.errors import ConfigError
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.objectives import module
from evertune.serving import bundle
from evertune.serving.portable import adapters
from evertune.training import head
from evertune.training import parameters as models
from evertune.training.distillation import student
from evertune.training.methods import mixout

if TYPE_CHECKING:
    from evertune.config import Recipe


@dataclass(frozen=True)
class Start:
    """A model, and what the method has added to it.

    Args:
        model: what is trained.
        method: `type` and options; None where all weights are trained.
        peft: the model of the library `peft` around it, where there is one.
    """

    model: Any
    method: Mapping[str, Any] | None = None
    peft: Any = None

    def finished(self, apart: bool) -> Any:
        """What the bundle saves: an ordinary model, or where it stays apart the adapter alone."""
        if apart:
            return Apart(self.model, self.peft)
        return self.model if self.peft is None else self.peft.merge_and_unload()


@dataclass(frozen=True)
class Apart:
    """An adapter that is saved without its base."""

    model: Any
    peft: Any

    def save_pretrained(self, folder: Path) -> None:
        """Write the adapter, the head and the configuration.

        Raises:
            OSError: the disk is full or not writable.
        """
        adapters.save(self.model, self.peft, folder)


def begin(recipe: "Recipe", objective: Any, labels: Sequence[str], champion: Path | None) -> Start:
    """Build the model, and add what the method trains.

    Args:
        champion: bundle to start from; None for the base.
    Raises:
        ConfigError: the method does not fit the model, or the champion.
        TrainingError: the weights cannot be loaded.
    """
    method = recipe.training.method
    known = None if champion is None else bundle.card(champion).get("adapter")
    _check(recipe, champion, known)
    whole = champion is not None and known is None  # an ordinary model
    place = str(champion / "model") if champion is not None and whole else base_models.locate(recipe)
    model = models.build(objective, place, labels, base_models.options(recipe), recipe.training.seed)
    renamed = recipe.contract.label.rename
    if champion is not None and whole and objective.LABELED:
        head.carry_over(model, objective.load(champion / "model"), labels, renamed)
    if recipe.training.student is not None:
        student.shrink(model, recipe.training.student.layers)
    if method == FULL:
        return Start(model)
    options = method.model_dump(mode="json")  # type: ignore[union-attr]
    try:
        start = Start(model, options, adapters.attach(model, options, base_models.name(recipe)))
        _try(model)
    except ValueError as error:
        raise ConfigError(f"training.method: {options['type']} does not fit {recipe.base_model}: {error}") from error
    if champion is not None and not whole:
        before = bundle.predictor(champion, "fp32").model
        _take_over(model, before)
        if objective.LABELED:
            head.carry_over(model, before, labels, renamed)
    return start


def fits(recipe: "Recipe") -> None:
    """Look whether what the recipe's training names fits its base model; nothing is trained.

    Raises:
        ConfigError: they do not, or the base model has no tokenizer that fits.
        TrainingError: the weights cannot be loaded.
    """
    from evertune.tokenization import tokenize as tokenization
    from evertune.training.distillation import teacher

    tokenizer, place = tokenization.tokenizer(recipe), teachers.place(recipe)
    if place is not None:
        teacher.same_inputs(place, tokenizer, recipe.objective)
    training, objective = recipe.training, module(recipe.objective.type)
    model = begin(recipe, objective, ("one", "another") if objective.LABELED else (), None).model
    models.freeze(model, training.freeze, training.train_top_layers, training.method == FULL)
    if training.mixout:
        mixout.layers(model)
    models.rated(model, training.learning_rate, training.head_learning_rate, training.layer_decay)


def _try(model: Any) -> None:
    """Two tokens through the model: one that takes no virtual tokens says so."""
    import torch

    ids = torch.tensor([[0, 1]])
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **more)


def _check(recipe: "Recipe", champion: Path | None, known: Mapping[str, Any] | None) -> None:
    """Whether this training may go on from this champion.

    Raises:
        ConfigError: it may not.
    """
    if champion is None:
        return
    anew = "train from the base with `--set data.fresh.start_from=base`"
    if known is None:
        if recipe.training.apart:
            raise ConfigError(
                "data.fresh.start_from: the champion is a whole model, and the adapter of `training.method` would "
                f"belong to it, not to base_model; set `merge: true`, or {anew}"
            )
        return
    method = recipe.training.method
    if not recipe.training.apart or method.model_dump(mode="json") != known["method"]:  # type: ignore[union-attr]
        raise ConfigError(
            f"data.fresh.start_from: the champion is an adapter ({_told(known['method'])}), and `training.method` is "
            f"another; keep the method, or {anew}"
        )
    if base_models.fingerprint(recipe) != known["fingerprint"]:
        raise ConfigError(
            f"data.fresh.start_from: the champion is an adapter of {known['base']}, and base_model is another; {anew}"
        )


def _told(method: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in method.items())


def _take_over(model: Any, before: Any) -> None:
    """Give the model what the champion's adapter has learned."""
    import torch

    learned = dict(before.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name in learned and learned[name].shape == parameter.shape:
                parameter.copy_(learned[name])
