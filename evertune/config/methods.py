"""`training.method`: which weights a training moves, by the names of the library `peft`."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from evertune.config.base import Section

FULL = "full"
ALL_LINEAR = "all-linear"
EMBEDDED = ("prompt", "p-tuning")  # virtual tokens before the row's own
VIRTUAL = ("prefix", *EMBEDDED)  # no weight of the base can take them up
READERS = ("text-classification", "token-classification")  # objectives that look at the states of a row's own tokens


def _list_targets(value: Any) -> Any:
    if not isinstance(value, (str, list)):
        raise ValueError(f"give `{ALL_LINEAR}`, or a list of patterns of layer names")
    return [value] if isinstance(value, str) and value != ALL_LINEAR else value


Targets = Annotated[
    Literal["all-linear"] | list[str],
    BeforeValidator(_list_targets),
    Field(description="Patterns (shell style) of linear layers; `all-linear`: every one in the layers of the base."),
]
Merge = Annotated[
    bool, Field(description="The bundle holds an ordinary model; `false`: the adapter alone, which needs its base.")
]


class Lora(Section):
    """Low-rank changes of linear layers (Hu et al. 2021)."""

    type: Literal["lora"] = Field("lora", description="Name of the method.")
    rank: int = Field(8, ge=1, le=512, description="Rank of each change.")
    alpha: float = Field(16, gt=0, le=4096, description="A change is multiplied by `alpha / rank`.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on what goes into a change.")
    targets: Targets = "all-linear"
    merge: Merge = True


class Dora(Lora):
    """LoRA with the length of each weight vector apart from its direction (Liu et al. 2024)."""

    type: Literal["dora"] = Field("dora", description="Name of the method.")  # type: ignore[assignment]


class AdaLora(Section):
    """LoRA whose ranks are taken from unimportant layers while it trains (Zhang et al. 2023)."""

    type: Literal["adalora"] = Field("adalora", description="Name of the method.")
    rank: int = Field(8, ge=1, le=512, description="Mean rank of a layer at the end.")
    initial_rank: int = Field(12, ge=1, le=512, description="Rank of each layer at the beginning.")
    alpha: float = Field(16, gt=0, le=4096, description="A change is multiplied by `alpha / initial_rank`.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on what goes into a change.")
    warmup: float = Field(0.1, ge=0, lt=0.5, description="Share of the steps before the first rank is taken.")
    final: float = Field(0.3, ge=0, lt=0.5, description="Share of the steps after the last rank is taken.")
    orthogonal: float = Field(0.5, ge=0, le=10, description="Weight of the loss that keeps the changes orthogonal.")
    targets: Targets = "all-linear"
    merge: Merge = True

    @model_validator(mode="after")
    def _ranks_fall(self) -> Self:
        if self.rank > self.initial_rank:
            raise ValueError(f"rank: {self.rank} at the end is more than initial_rank {self.initial_rank}; lower it")
        return self


class Ia3(Section):
    """One factor for each output of linear layers (Liu et al. 2022)."""

    type: Literal["ia3"] = Field("ia3", description="Name of the method.")
    targets: Targets = "all-linear"
    merge: Merge = True


class Prefix(Section):
    """Keys and values of virtual tokens in every layer (Li & Liang 2021)."""

    type: Literal["prefix"] = Field("prefix", description="Name of the method.")
    virtual_tokens: int = Field(20, ge=1, le=512, description="Tokens that every row attends to.")
    hidden_size: int | None = Field(
        None, ge=1, le=8192, description="Units of a network that makes them while it trains. Default: there is none."
    )


class Prompt(Section):
    """Embeddings of virtual tokens before every row (Lester et al. 2021)."""

    type: Literal["prompt"] = Field("prompt", description="Name of the method.")
    virtual_tokens: int = Field(20, ge=1, le=512, description="Tokens before each row.")


class PTuning(Section):
    """Embeddings of virtual tokens before every row, made by a small network (Liu et al. 2021)."""

    type: Literal["p-tuning"] = Field("p-tuning", description="Name of the method.")
    virtual_tokens: int = Field(20, ge=1, le=512, description="Tokens before each row.")
    network: Literal["mlp", "lstm"] = Field("mlp", description="What makes them.")
    hidden_size: int = Field(128, ge=1, le=8192, description="Units of the network.")


METHODS: dict[str, type[Section]] = {
    "lora": Lora,
    "dora": Dora,
    "adalora": AdaLora,
    "ia3": Ia3,
    "prefix": Prefix,
    "prompt": Prompt,
    "p-tuning": PTuning,
}


def _expand_name(value: Any) -> Any:
    """A name alone is that method with its defaults."""
    if isinstance(value, dict) and value.get("type") == FULL:
        if len(value) > 1:
            raise ValueError(f"`{FULL}` has no options; `freeze` and `train_top_layers` stand beside it")
        return FULL
    return {"type": value} if isinstance(value, str) and value != FULL else value


def _method_kind(value: Any) -> Any:
    if value == FULL:
        return FULL
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


Method = Annotated[
    Annotated[Literal["full"], Tag(FULL)]
    | Annotated[Lora, Tag("lora")]
    | Annotated[Dora, Tag("dora")]
    | Annotated[AdaLora, Tag("adalora")]
    | Annotated[Ia3, Tag("ia3")]
    | Annotated[Prefix, Tag("prefix")]
    | Annotated[Prompt, Tag("prompt")]
    | Annotated[PTuning, Tag("p-tuning")],
    Discriminator(_method_kind),
    BeforeValidator(_expand_name),
]


def describe_misfit(
    method: Any, objective: Any, finishes: bool, top_layers: int | None, freeze: list[str]
) -> str | None:
    """Why a method cannot be used with the rest of a recipe; None if it can.

    Args:
        objective: its options; finishes: whether its model keeps more than what was trained.
        top_layers, freeze: of `training`.
    """
    kind = FULL if method == FULL else method.type
    if finishes and not getattr(method, "merge", True):
        return f"{objective.type} keeps rows in its model, which an adapter does not hold; leave `merge` at true"
    if kind in VIRTUAL and objective.type not in READERS:
        return f"{kind} serves {' and '.join(READERS)}, not {objective.type}; choose lora"
    if kind in EMBEDDED and getattr(objective, "pooling", None) == "model":
        return (
            f"with {kind} the state that `objective.pooling: model` looks at would be that of a virtual token; choose "
            "another pooling, or prefix"
        )
    if top_layers is not None and kind in ("adalora", *VIRTUAL):
        return f"{kind} works in all layers; leave `training.train_top_layers` out"
    if freeze and kind == "adalora":
        return "adalora takes ranks from all of its layers; name those that it may change in `targets`, not in `freeze`"
    return None
