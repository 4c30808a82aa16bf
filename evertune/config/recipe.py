"""The recipe, and its sections on the model's side: evaluation, registry, monitor, schedule."""

import difflib
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, ValidationInfo, field_validator, model_validator

from evertune.config.base import Section
from evertune.config.data import Contract, Data, LabelRules
from evertune.config.losses import describe_unlearnable
from evertune.config.methods import describe_misfit
from evertune.config.notify import Notify
from evertune.config.robustness import Robustness, Test
from evertune.config.training import Training
from evertune.objectives import ROLES, Options, load_objective


class SliceRule(Section):
    """When a slice of the test rows speaks against a challenger."""

    drop: float = Field(0.05, ge=0, le=1, description="Loss of the metric that counts as harm.")
    min_rows: int = Field(
        50, ge=2, description="Smaller slices are reported, not tested; rows of one group count as one."
    )
    correction: Literal["holm"] = Field("holm", description="Correction for the number of slices (Holm 1979).")


class Gate(Section):
    """The rule that compares challenger and champion."""

    minimum: dict[str, float] = Field(default_factory=dict, description="Metric -> least value on the test split.")
    confidence: float = Field(
        0.95, gt=0.5, lt=1, description="1 less the chance of a wrong promotion over all nights of a champion."
    )
    superior_on: Literal["fresh", "test"] = Field("fresh", description="Rows on which a challenger must be better.")
    noninferior_on: dict[Literal["history", "test"], float] = Field(
        {"history": 0.02}, description="Rows -> margin by which it may be worse."
    )
    min_rows: int = Field(30, ge=2, description="Fewer rows than this are no evidence; rows of one group count as one.")
    robustness: dict[Test, float] = Field(
        default_factory=dict,
        description="Behavioural test -> largest loss of the share of right answers, such as `{typos: 0.05}`; more of "
        "it rejects.",
    )
    slice: SliceRule = Field(default_factory=SliceRule, description="Harm in a slice.")


class Evaluation(Section):
    """How models are judged."""

    metric: str | None = Field(None, description="Metric of early stopping and gate. Default: the objective's own.")
    slices: list[Literal["label", "length", "source", "window"]] = Field(
        ["label", "length", "window"],
        description="How test rows are cut into slices. `window`: those that the champion knew, by when they came.",
    )
    window: int | None = Field(
        None,
        ge=100,
        description="How many validation rows, and test rows that the champion knew, are scored: the newest ones. "
        "Default: all, which costs more with every year.",
    )
    bootstrap: int = Field(2000, ge=200, le=100_000, description="Resamples behind every interval.")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="Arithmetic of evaluation and serving.")
    robustness: Robustness | None = Field(None, description="Behavioural tests. Default: none are made.")
    gate: Gate = Field(default_factory=Gate, description="The rule for promotion.")


class Registry(Section):
    """What happens to a challenger that passes."""

    promote: Literal["auto", "ask"] = Field("auto", description="`ask`: it waits for `evertune approve`.")
    expires: str = Field(
        "30 days", description="`14 days`, or `never`: a challenger that has waited longer can no longer be approved."
    )
    model: str | None = Field(None, description="Registered name. Default: the recipe's name.")

    @field_validator("expires")
    @classmethod
    def _check_days(cls, expires: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,3} days?|never", expires):
            raise ValueError("write a number of days, such as `14 days`, or `never`")
        return expires

    @property
    def waiting_time(self) -> timedelta | None:
        """How long a challenger may wait; None for ever."""
        return None if self.expires == "never" else timedelta(days=int(self.expires.split()[0]))


class Monitor(Section):
    """When rows that came are another kind than those that the champion knows."""

    false_alarms: float = Field(0.05, ge=0.01, lt=0.5, description="Chance of a false alarm in `checks` checks.")
    checks: int = Field(1, ge=1, le=366, description="Checks that `false_alarms` is meant for, such as 52 weekly ones.")
    min_rows: int = Field(30, ge=2, description="With fewer rows on a side nothing is said.")

    @property
    def level(self) -> float:
        """The p-value at which one check tells of drift (Sidak 1967)."""
        return float(1 - (1 - self.false_alarms) ** (1 / self.checks))


Hours = Annotated[float, Field(ge=0, le=8784)]


class Triggers(Section):
    """What the monitor has to see to start a retraining, beside the deployment's `schedule`."""

    drift: bool = Field(True, description="Drift of any kind; see `monitor` for its rate of false alarms.")
    new_labels: int | None = Field(
        None,
        ge=1,
        description="So many accepted rows since the champion's; touched ones do not count. Default: none start one.",
    )
    performance_drop: float | None = Field(
        None, gt=0, lt=1, description="So large a loss of the share of right answers, proven. Default: none starts one."
    )
    cooldown: Hours = Field(24.0, description="Hours after a start by any trigger in which one starts nothing.")
    cooldowns: dict[Literal["drift", "new_labels", "performance_drop"], Hours] = Field(
        default_factory=dict, description="Hours of single triggers, in the place of `cooldown`."
    )
    budget: float | None = Field(
        None, gt=0, le=168, description="Hours of training in the last 7 days after which no trigger starts one."
    )

    def cooldown_of(self, name: str) -> float:
        """The hours of a trigger's cooldown."""
        return {str(trigger): hours for trigger, hours in self.cooldowns.items()}.get(name, self.cooldown)


class Retention(Section):
    """What `evertune clean` leaves in place, whatever its age: the rest is removed once it is `days` old."""

    runs: int = Field(20, ge=1, description="The newest versions, and the newest folders of runs, that stay whole.")
    predecessors: int | None = Field(
        None, ge=1, description="Champions before this one that stay whole, for a rollback. Default: all of them."
    )
    days: int = Field(30, ge=0, description="Nothing younger than this goes.")


class Schedule(Section):
    """When the deployment runs by itself: what its entry in deployments/prefect.yaml says, which is what counts."""

    cron: str = Field(description="Five fields: minute, hour, day, month, weekday; the same as in the deployment.")
    timezone: str = Field("UTC", description="Zone of the cron fields, such as `Europe/Berlin`.")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from cronsim import CronSim, CronSimError

        if len(cron.split()) != 5:
            raise ValueError("give five fields: minute, hour, day, month, weekday")
        try:
            CronSim(cron, datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(f"{str(error).lower()}; give minute, hour, day, month, weekday") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            near = difflib.get_close_matches(zone, available_timezones(), 1)
            hint = f"did you mean {near[0]}?" if near else "give one such as UTC or Europe/Berlin"
            raise ValueError(f"no such zone; {hint}") from None
        return zone


class Recipe(Section):
    """A model's whole life."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{1,62}$", description="MLflow experiment, registered model, deployment."
    )
    objective: Annotated[Options, Field(discriminator="type")] = Field(description="What the model is tuned for.")
    base_model: str = Field(
        description="A hub id, a folder, `package:NAME/FOLDER` of an installed package, a `.gguf` file of a decoder, "
        "or `champion:NAME`, the champion of another recipe, such as one that goes on with pretraining."
    )
    data: Data = Field(description="Where rows come from.")
    contract: Contract = Field(default_factory=Contract, description="What a row must be.")
    training: Training = Field(default_factory=Training, description="How the weights change.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How models are judged.")
    registry: Registry = Field(default_factory=Registry, description="What happens to a challenger that passes.")
    monitor: Monitor = Field(default_factory=Monitor, description="How drift is looked for.")
    notify: Notify = Field(default_factory=Notify, description="Who is told how a run ended.")
    triggers: Triggers = Field(default_factory=Triggers, description="What the monitor sees that starts a retraining.")
    retention: Retention = Field(default_factory=Retention, description="What `evertune clean` leaves in place.")
    schedule: Schedule | None = Field(
        None, description="When the deployment runs by itself; `evertune up` compares it with deployments/prefect.yaml."
    )
    folder: Path = Field(Path(), description="Folder that relative paths start from; set when the file is loaded.")
    file: str = Field("", description="Name of its file in that folder, for the commands in messages.")

    @field_validator("folder")
    @classmethod
    def _make_absolute(cls, folder: Path, info: ValidationInfo) -> Path:
        return folder if folder.is_absolute() else folder.absolute()

    @model_validator(mode="after")
    def _roles_and_metrics_exist(self) -> Self:
        objective = load_objective(self.objective.type)
        allowed = [*objective.COLUMNS, *ROLES]
        unknown = [role for role in self.data.columns if role not in allowed]
        if unknown:
            raise ValueError(
                f"data.columns: unknown role {', '.join(unknown)}; {self.objective.type} has {', '.join(allowed)}"
            )
        role_columns = [self.column(role) for role in objective.COLUMNS]
        if repeated := sorted({column for column in role_columns if role_columns.count(column) > 1}):
            raise ValueError(f"data.columns: more than one role is read from {', '.join(repeated)}; give each its own")
        if self.training.class_weights != "none" and not objective.LABELED:
            raise ValueError(f"training.class_weights: the targets of {self.objective.type} are no labels; take it out")
        if self.data.fresh.examples_per_label and not objective.LABELED:
            raise ValueError(f"data.fresh.examples_per_label: the targets of {self.objective.type} are no labels")
        if self.contract.label != LabelRules() and not objective.LABELED:
            raise ValueError(f"contract.label: the targets of {self.objective.type} are no labels; take it out")
        self._check_settings()
        self._check_loss()
        self._check_robustness()
        required_metrics = {self.metric, *self.evaluation.gate.minimum}
        if missing := sorted(required_metrics - set(objective.METRICS)):
            raise ValueError(
                f"evaluation: unknown metric {', '.join(missing)}; there are {', '.join(objective.METRICS)}"
            )
        if objective.has_own_tokenizer and (self.training.method != "full" or self.training.adversarial):
            key = "method" if self.training.method != "full" else "adversarial"
            raise ValueError(
                f"training.{key}: works on token ids, which {self.objective.type} has none of; take it out"
            )
        training = self.training
        if problem := describe_misfit(
            training.method, self.objective, objective.finishes_model, training.train_top_layers, training.freeze
        ):
            raise ValueError(f"training.method: {problem}")
        return self

    def _check_settings(self) -> None:
        """Raises ValueError where a setting of `training` would change nothing of what it says."""
        for name, reason in load_objective(self.objective.type).IGNORED_SETTINGS.items():
            if getattr(self.training, name) != Training.model_fields[name].default:
                raise ValueError(f"training.{name}: without effect for {self.objective.type}: {reason}; take it out")

    def _check_loss(self) -> None:
        """Raises ValueError where the objective has no choice of one label that its loss could change."""
        if problem := describe_unlearnable(self.training, self.objective.type):
            raise ValueError(f"training.{problem}")
        if self.training.processes > 1 and load_objective(self.objective.type).COUPLED:
            raise ValueError(
                f"training.processes: {self.objective.type} learns from the pairs of a whole batch, "
                "which no process has; set it to 1"
            )

    def _check_robustness(self) -> None:
        """Raises ValueError where the gate asks for a test that is not made, or one does not fit the objective."""
        thresholds = self.evaluation.gate.robustness
        tests = self.evaluation.robustness
        if tests and self.objective.type not in ("text-classification", "token-classification"):
            raise ValueError(f"evaluation.robustness: there are no such tests for {self.objective.type}; take it out")
        if tests and tests.opposites and self.objective.type != "text-classification":
            raise ValueError("evaluation.robustness.opposites: a denial adds a word, which would have no tag")
        listed = self.contract.label.values
        if tests and listed != "inferred" and (unknown := tests.find_unknown_labels(listed)):
            near = difflib.get_close_matches(unknown[0], listed, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(listed)}"
            raise ValueError(f"evaluation.robustness.opposites: contract.label.values has no {unknown[0]}; {hint}")
        if missing := [name for name in thresholds if tests is None or name not in tests.names]:
            raise ValueError(
                f"evaluation.gate.robustness: {missing[0]} is not tested; "
                + (
                    "give evaluation.robustness.opposites"
                    if missing[0] == "negation"
                    else "add it to evaluation.robustness.tests"
                )
            )

    @property
    def metric(self) -> str:
        """The metric that early stopping and the gate look at."""
        return self.evaluation.metric or load_objective(self.objective.type).METRICS[0]

    @property
    def registered_name(self) -> str:
        """The registered model's name in MLflow."""
        return self.registry.model or self.name

    def column(self, role: str) -> str:
        """The source's column for a role; a role that the recipe does not name is read from the column of that name."""
        return self.data.columns.get(role, role)
