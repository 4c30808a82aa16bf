"""Sections of `training` that say what is learned, beside the labels: loss, adversary, teacher, student."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from evertune.config.base import Section

# Objectives that choose one label for a row or a word: what is below is defined for these.
CHOOSING = ("text-classification", "token-classification", "pair-classification", "image-classification")
CHANGES = ("loss", "r_drop")
# Objectives that read texts with one encoder: its states can be taught by another's.
READING = (
    "text-classification",
    "token-classification",
    "pair-classification",
    "multi-label",
    "pair-regression",
    "masked-lm",
)


class Focal(Section):
    """Rows that the model finds easy count less (Lin et al. 2017)."""

    type: Literal["focal"] = Field("focal", description="Name of the loss.")
    gamma: float = Field(2.0, gt=0, le=10, description="How much less easy rows count.")


class ClassBalanced(Section):
    """Labels weigh by the inverse of their effective number of rows (Cui et al. 2019)."""

    type: Literal["class-balanced"] = Field("class-balanced", description="Name of the loss.")
    beta: float = Field(0.999, gt=0, lt=1, description="0: all labels alike; near 1: inverse to their frequency.")


class Fgm(Section):
    """Fast gradient method: one step against the model, learned beside the row itself (Miyato et al. 2017)."""

    type: Literal["fgm"] = Field("fgm", description="Name of the adversary.")
    epsilon: float = Field(
        0.3, gt=0, description="Length of the step, over all of a row's embeddings; a word's vector is about 1 long."
    )


class Pgd(Section):
    """Projected gradient descent: several steps, of which the last alone is learned (Madry et al. 2018)."""

    type: Literal["pgd"] = Field("pgd", description="Name of the adversary.")
    epsilon: float = Field(1.0, gt=0, description="Radius that the steps stay in, over all of a row's embeddings.")
    steps: int = Field(3, ge=1, le=20, description="Steps against the model; each costs a forward and a backward pass.")
    step_size: float = Field(0.4, gt=0, description="Length of a step.")


class FreeLb(Section):
    """As `pgd`, and all steps are learned, with one dropout mask (FreeLB, Zhu et al. 2020)."""

    type: Literal["freelb"] = Field("freelb", description="Name of the adversary.")
    epsilon: float = Field(0.4, gt=0, description="Radius that the steps stay in, over all of a row's embeddings.")
    steps: int = Field(3, ge=2, le=20, description="Steps, each learned.")
    step_size: float = Field(0.15, gt=0, description="Length of a step.")


class Distill(Section):
    """A teacher, whose opinion of each row (Hinton et al. 2015) or hidden states are learned beside the labels."""

    teacher: str = Field(
        min_length=1,
        description="`champion`, the number of a registered version, `champion:NAME` of another recipe, or the folder "
        "of a model bundle; for hidden states alone any base model too, named as `base_model` is. Its tokenizer is the "
        "base model's; it knows pictures of the same size. Labels are matched by name.",
    )
    temperature: float = Field(2.0, gt=0, le=100, description="How much both opinions are softened.")
    weight: float = Field(
        0.5, ge=0, le=1, description="Share of the teacher's opinion in the loss; the labels have the rest."
    )
    hidden: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="Weight of the difference between the hidden states of student and teacher, beside the rest of the "
        "loss (Sun et al. 2019; Jiao et al. 2020).",
    )
    distance: Literal["mse", "cosine"] = Field(
        "mse",
        description="How states differ: by their mean squared error, or by 1 less their cosine (Sanh et al. 2019).",
    )
    layers: dict[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict,
        description="Layer of the student -> layer of the teacher whose states it learns, counted from 1. Default: all "
        "of the student's, evenly over the teacher's.",
    )

    @model_validator(mode="after")
    def _check_weights(self) -> Self:
        if not self.weight and not self.hidden:
            raise ValueError("weight and hidden are both 0, so nothing is learned from the teacher; raise one")
        if self.layers and not self.hidden:
            raise ValueError("layers: names whose hidden states are learned; give `hidden`, their weight")
        return self


class Student(Section):
    """A smaller model, made from the base model."""

    layers: int = Field(ge=1, description="Layers of the base model that it has, taken evenly (Sun et al. 2019).")


def _expand_name(value: Any) -> Any:
    """A name alone is a section of that type; `cross-entropy` is what is learned without one."""
    section = {"type": value} if isinstance(value, str) else value
    return None if section == {"type": "cross-entropy"} else section


Loss = Annotated[Annotated[Focal | ClassBalanced, Field(discriminator="type")] | None, BeforeValidator(_expand_name)]
Adversary = Annotated[Annotated[Fgm | Pgd | FreeLb, Field(discriminator="type")] | None, BeforeValidator(_expand_name)]


def describe_unlearnable(training: Any, kind: str) -> str | None:
    """What of `training` has no meaning for an objective, and what to do; None where all has.

    Args:
        training: the section; kind: the objective's name.
    """
    for name in CHANGES:
        if getattr(training, name) and kind not in CHOOSING:
            return f"{name}: {kind} does not choose one label; take it out"
    rule = training.distill
    if rule is not None and rule.weight and kind not in CHOOSING:
        advice = "set its weight to 0, and hidden above 0" if kind in READING else "take it out"
        return f"distill: {kind} does not choose one label, which a teacher could have an opinion of; {advice}"
    if rule is not None and rule.hidden and kind not in READING:
        return f"distill.hidden: {kind} does not read texts; set it to 0"
    return None
