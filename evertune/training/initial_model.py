"""Build the model that a training starts from: base or champion, with a head and the method's weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evertune.config.methods import FULL
from evertune.errors import ConfigError
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.objectives import Objective, load_objective
from evertune.serving import bundle
from evertune.serving.portable import adapters
from evertune.training import head, parameters
from evertune.training.distillation import student
from evertune.training.methods import mixout

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from evertune.config import Recipe
    from evertune.training.finetune import AdapterCard


@dataclass(frozen=True)
class InitialModel:
    """A model, and what the training method has added to it.

    Args:
        model: the trained model.
        method: `type` and options of the method; None if all weights are trained.
        peft: the `peft` model around it; None without one.
    """

    model: "PreTrainedModel"
    method: Mapping[str, object] | None = None
    peft: "PeftModel | None" = None

    def finish_model(self, keep_unmerged: bool) -> "PreTrainedModel | UnmergedAdapter":
        """Return what the bundle saves: an ordinary model, or the adapter alone if it stays unmerged."""
        if keep_unmerged:
            return UnmergedAdapter(self.model, self.peft)
        if self.peft is None:
            return self.model
        return self.peft.merge_and_unload()


@dataclass(frozen=True)
class UnmergedAdapter:
    """An adapter that is saved without its base."""

    model: "PreTrainedModel"
    peft: "PeftModel | None"

    def save_pretrained(self, folder: Path) -> None:
        """Write the adapter, the head and the configuration.

        Raises:
            OSError: the disk is full or not writable.
        """
        adapters.save_adapter(self.model, self.peft, folder)


def build_initial_model(
    recipe: "Recipe", objective: Objective, labels: Sequence[str], champion: Path | None
) -> InitialModel:
    """Build the model, and add the weights that the method trains.

    Args:
        recipe: the model's recipe.
        objective: its module.
        labels: in order.
        champion: bundle to start from; None for the base.
    Raises:
        ConfigError: the method does not fit the model, or the champion.
        TrainingError: the weights cannot be loaded.
    """
    method = recipe.training.method
    adapter_card: AdapterCard | None = None if champion is None else bundle.read_card(champion).get("adapter")
    _check_champion(recipe, champion, adapter_card)
    is_full_model = champion is not None and adapter_card is None
    start_folder = champion / "model" if champion is not None and is_full_model else base_models.locate_base(recipe)
    model_path = str(start_folder)
    model = parameters.build_model(
        objective, model_path, labels, base_models.resolve_options(recipe), recipe.training.seed
    )
    renamed = recipe.contract.label.rename
    if champion is not None and is_full_model and objective.LABELED:
        head.carry_over(model, objective.load_model(champion / "model"), labels, renamed)
    if recipe.training.student is not None:
        student.shrink_model(model, recipe.training.student.layers)
    if method == FULL:
        return InitialModel(model)
    options = method.model_dump(mode="json")  # type: ignore[union-attr]
    try:
        peft = adapters.attach_adapter(model, options, base_models.get_base_name(recipe))
        start = InitialModel(model, options, peft)
        _try_forward(model)
    except ValueError as error:
        raise ConfigError(f"training.method: {options['type']} does not fit {recipe.base_model}: {error}") from error
    if champion is not None and not is_full_model:
        champion_model = bundle.load_predictor(champion, "fp32").model
        _copy_adapter(model, champion_model)
        if objective.LABELED:
            head.carry_over(model, champion_model, labels, renamed)
    return start


def check_recipe_fits(recipe: "Recipe") -> None:
    """Check that the recipe's training settings fit its base model, without training.

    Raises:
        ConfigError: they do not fit, or the base model has no suitable tokenizer.
        TrainingError: the weights cannot be loaded.
    """
    from evertune.tokenization import tokenize
    from evertune.training.distillation import teacher

    tokenizer = tokenize.load_tokenizer(recipe)
    teacher_path = teachers.locate_teacher(recipe)
    if teacher_path is not None:
        teacher.check_same_inputs(teacher_path, tokenizer, recipe.objective)
    training = recipe.training
    objective = load_objective(recipe.objective.type)
    model = build_initial_model(recipe, objective, ("one", "another") if objective.LABELED else (), None).model
    parameters.freeze_parameters(model, training.freeze, training.train_top_layers, training.method == FULL)
    if training.mixout:
        mixout.find_linear_layers(model)
    parameters.assign_rates(model, training.learning_rate, training.head_learning_rate, training.layer_decay)


def _try_forward(model: "PreTrainedModel") -> None:
    """Run two tokens through the model: one that does not support virtual tokens raises ValueError."""
    import torch

    ids = torch.tensor([[0, 1]])
    decoder_inputs = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        model(input_ids=ids, attention_mask=torch.ones_like(ids), **decoder_inputs)


def _check_champion(recipe: "Recipe", champion: Path | None, adapter_card: "AdapterCard | None") -> None:
    """Check that this training can start from this champion.

    Raises:
        ConfigError: it cannot.
    """
    if champion is None:
        return
    advice = "train from the base with `--set data.fresh.start_from=base`"
    if adapter_card is None:
        if recipe.training.needs_base:
            raise ConfigError(
                "data.fresh.start_from: the champion is a full model, so the unmerged adapter of training.method would "
                f"need the champion instead of base_model; set merge: true, or {advice}"
            )
        return
    method = recipe.training.method
    if not recipe.training.needs_base or method.model_dump(mode="json") != adapter_card["method"]:  # type: ignore[union-attr]
        raise ConfigError(
            f"data.fresh.start_from: the champion is an adapter ({_format_method(adapter_card['method'])}), but "
            f"training.method differs; keep the champion's method, or {advice}"
        )
    if base_models.fingerprint_base(recipe) != adapter_card["fingerprint"]:
        raise ConfigError(
            f"data.fresh.start_from: the champion is an adapter of {adapter_card['base']}, but base_model differs; "
            f"{advice}"
        )


def _format_method(method: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in method.items())


def _copy_adapter(model: "PreTrainedModel", champion_model: "PreTrainedModel") -> None:
    """Copy the weights of the champion's adapter to the model."""
    import torch

    learned = dict(champion_model.named_parameters())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and name in learned and learned[name].shape == parameter.shape:
                parameter.copy_(learned[name])
