"""Sections of `training` that say what is learned besides the labels: loss, adversary, teacher, student."""

from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from evertune.config.base import Section

if TYPE_CHECKING:
    from evertune.config.training import Training

# Objectives that choose one label for a row or a word: losses and teachers' logits are defined for these.
CHOOSING = ("text-classification", "token-classification", "pair-classification", "image-classification")
CHANGES = ("loss", "r_drop")
# Objectives that read texts with one encoder, whose hidden states another can teach.
READING = (
    "text-classification",
    "token-classification",
    "pair-classification",
    "multi-label",
    "pair-regression",
    "masked-lm",
)


class Focal(Section):
    """Focal loss: rows that the model finds easy count less (Lin et al. 2017)."""

    type: Literal["focal"] = Field("focal", description="Name of the loss.")
    gamma: float = Field(2.0, gt=0, le=10, description="How much less easy rows count; 0 would be cross-entropy.")


class ClassBalanced(Section):
    """Weights labels by the inverse of their effective number of rows (Cui et al. 2019)."""

    type: Literal["class-balanced"] = Field("class-balanced", description="Name of the loss.")
    beta: float = Field(0.999, gt=0, lt=1, description="Near 0: all labels alike; near 1: inverse to their frequency.")


class Fgm(Section):
    """Fast gradient method: one adversarial step, learned in addition to the row itself (Miyato et al. 2017)."""

    type: Literal["fgm"] = Field("fgm", description="Name of the adversary.")
    epsilon: float = Field(
        0.3,
        gt=0,
        description="L2 norm of the step over all of a row's embeddings; that of a word's embedding is about 1.",
    )


class Pgd(Section):
    """Projected gradient descent: several adversarial steps, of which only the last is learned (Madry et al. 2018)."""

    type: Literal["pgd"] = Field("pgd", description="Name of the adversary.")
    epsilon: float = Field(1.0, gt=0, description="L2 radius of all steps together, over all of a row's embeddings.")
    steps: int = Field(3, ge=1, le=20, description="Adversarial steps; each costs a forward and a backward pass.")
    step_size: float = Field(0.4, gt=0, description="L2 norm of a step.")


class FreeLb(Section):
    """FreeLB: as `pgd`, but all steps are learned, with one dropout mask (Zhu et al. 2020)."""

    type: Literal["freelb"] = Field("freelb", description="Name of the adversary.")
    epsilon: float = Field(0.4, gt=0, description="L2 radius of all steps together, over all of a row's embeddings.")
    steps: int = Field(3, ge=2, le=20, description="Adversarial steps.")
    step_size: float = Field(0.15, gt=0, description="L2 norm of a step.")


class Distill(Section):
    """Distillation: learn a teacher's predictions (Hinton et al. 2015) or hidden states besides the labels."""

    teacher: str = Field(
        min_length=1,
        description="`champion`, the number of a registered version, `champion:NAME` of another recipe, or the folder "
        "of a model bundle; for hidden states alone also any base model, named as in `base_model`. It must have the "
        "base model's tokenizer, or pictures of the same size. Labels are matched by name.",
    )
    temperature: float = Field(2.0, gt=0, le=100, description="Temperature that softens both models' probabilities.")
    weight: float = Field(
        0.5, ge=0, le=1, description="Share of the teacher's predictions in the loss; the labels have the rest."
    )
    hidden: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of the distance between the hidden states of student and teacher, added to the loss (Sun "
        "et al. 2019; Jiao et al. 2020).",
    )
    distance: Literal["mse", "cosine"] = Field(
        "mse",
        description="Distance of hidden states: mean squared error, or 1 minus the cosine (Sanh et al. 2019).",
    )
    layers: dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Layer of the student -> layer of the teacher that it learns, counted from 1. Default: all layers "
        "of the student, evenly spread over the teacher's.",
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not self.weight and not self.hidden:
            raise ValueError("weight and hidden are both 0, so nothing is learned from the teacher; raise one of them")
        if self.layers and not self.hidden:
            raise ValueError("layers: has no effect without `hidden`, the weight of the hidden states; set it")
        return self


class Student(Section):
    """A smaller model, made from the base model."""

    layers: int = Field(ge=1, description="Number of layers, taken evenly from the base model (Sun et al. 2019).")


def _expand_name(value: object) -> object:
    """Expand a bare name to a section of that type; `cross-entropy` is the loss without a section."""
    section = {"type": value} if isinstance(value, str) else value
    return None if section == {"type": "cross-entropy"} else section


Loss = Annotated[Annotated[Focal | ClassBalanced, Field(discriminator="type")] | None, BeforeValidator(_expand_name)]
Adversary = Annotated[Annotated[Fgm | Pgd | FreeLb, Field(discriminator="type")] | None, BeforeValidator(_expand_name)]


def describe_unlearnable(training: "Training", kind: str) -> str | None:
    """Return which setting of `training` the objective cannot learn, and what to do; None if there is none.

    Args:
        training: the section.
        kind: the objective's name.
    """
    for name in CHANGES:
        if getattr(training, name) and kind not in CHOOSING:
            return f"{name}: {kind} does not predict one label; remove it"
    rule = training.distill
    if rule is not None and rule.weight and kind not in CHOOSING:
        advice = "set weight to 0 and hidden above 0" if kind in READING else "remove it"
        return f"distill: {kind} does not predict one label, so there are no probabilities to learn from; {advice}"
    if rule is not None and rule.hidden and kind not in READING:
        return f"distill.hidden: {kind} does not read texts; set it to 0"
    return None
