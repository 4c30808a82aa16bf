"""The recipe, and its sections about the model: evaluation, registry, monitor, schedule."""

import difflib
import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    Field,
    SerializationInfo,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from evertune.config.base import Section
from evertune.config.data import Contract, Data, LabelRules
from evertune.config.losses import describe_unlearnable
from evertune.config.methods import describe_misfit
from evertune.config.metric_bounds import describe_unreachable
from evertune.config.notify import Notify
from evertune.config.robustness import Robustness, Test
from evertune.config.time_zones import suggest_zone
from evertune.config.training import Training
from evertune.objectives import ROLES, Options, load_objective

LONGEST_NAME = 200  # characters of a registered model's name; PostgreSQL and MLflow's pages hold more
HALF_LIFE = r"[1-9]\d{0,4} (?:day|ingest)s?|never"


class SliceRule(Section):
    """When a loss in one slice of the test rows rejects a challenger."""

    drop: float = Field(0.05, ge=0, le=1, description="Drop of the metric that counts as harm.")
    min_rows: int = Field(
        50, ge=2, description="Smaller slices are reported but not tested. Rows of one group count as one."
    )
    correction: Literal["holm"] = Field("holm", description="Correction for the number of slices (Holm 1979).")


RuleName = Literal["expected", "proof", "thresholds"]
THRESHOLD_SETTINGS = ("superior_on", "noninferior_on")  # naming one of them selects the rule `thresholds`


Resource = Literal["size", "memory", "latency", "training"]


class Gate(Section):
    """The rule that compares challenger and champion."""

    rule: RuleName | None = Field(
        None,
        description="`expected`: promote what is probably better, weighed by `caution`. `proof`: promote what is "
        "proven better; over all runs against one champion at most 1 - `confidence` are wrong. `thresholds`: promote "
        "what is proven better on `superior_on` and not worse on `noninferior_on`. Default: `thresholds` where one of "
        "these two is set, else `expected`.",
    )
    caution: float = Field(
        6.0,
        ge=1,
        le=1000,
        description="How many points of missed gain one lost point is worth, for the rule `expected`. 1 promotes "
        "whatever looks better; 6 promotes a challenger that is no better with a chance of about 25%; 102 of 5%.",
    )
    half_life: str | None = Field(
        None,
        description="Age at which a test row counts half, such as `30 days` or `3 ingests`, for the rules `expected` "
        "and `proof`; `never`: all rows count alike. Default: a quarter of the time from the oldest to the newest "
        "test row.",
    )
    minimum: dict[str, float] = Field(default_factory=dict, description="Metric -> minimum on the test split.")
    confidence: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="1 minus the level of the tests that can stop a challenger, and of the promotions under the rules "
        "`proof` and `thresholds`: the probability of a wrong one over all runs against one champion.",
    )
    superior_on: Literal["fresh", "test"] = Field(
        "fresh", description="Rows on which a challenger must beat the champion, for the rule `thresholds`."
    )
    noninferior_on: dict[Literal["history", "test"], float] = Field(
        {"history": 0.02},
        description="Rows -> margin by which the challenger may be worse, for the rule `thresholds`.",
    )
    min_rows: int = Field(
        30, ge=2, description="With fewer rows than this no decision is based on them. Rows of one group count as one."
    )
    robustness: dict[Test, float] = Field(
        default_factory=dict,
        description="Behavioural test -> largest allowed drop of the share of right answers, such as `{typos: 0.05}`; "
        "a larger one rejects the challenger.",
    )
    resources: dict[Resource, Annotated[float, Field(gt=0)]] = Field(
        default_factory=dict,
        description="Resource -> how many times as much of it as the champion's a challenger may take, such as "
        "`{latency: 1.2, size: 1.5}`; more rejects the challenger. `latency` is processor time for a row, `memory` "
        "that of the weights, `training` the time of the training.",
    )
    above_baseline: bool = Field(
        False,
        description="Hold a challenger that is no better than a simple model of the words (TF-IDF and logistic "
        "regression). Only for texts with labels.",
    )
    slice: SliceRule = Field(default_factory=SliceRule, description="When harm in a slice rejects a challenger.")

    @field_validator("half_life")
    @classmethod
    def _check_half_life(cls, half_life: str | None) -> str | None:
        if half_life is not None and not re.fullmatch(HALF_LIFE, half_life):
            raise ValueError("write a number of days or ingests, such as `30 days` or `3 ingests`, or `never`")
        return half_life

    @model_serializer(mode="wrap")
    def _write_rule(self, write: SerializerFunctionWrapHandler, info: SerializationInfo) -> dict[str, object]:
        """Write the rule in use, so that a recipe that is read back keeps it; fingerprints count what was set."""
        values: dict[str, object] = write(self)
        return values if info.exclude_defaults else {**values, "rule": self.rule_name}

    @model_validator(mode="after")
    def _check_rule(self) -> Self:
        """Refuse settings that the rule would ignore."""
        obeyed = {"thresholds": THRESHOLD_SETTINGS, "expected": ("caution", "half_life"), "proof": ("half_life",)}
        every = dict.fromkeys(name for names in obeyed.values() for name in names)
        ignored = [name for name in every if name not in obeyed[self.rule_name] and self._differs(name)]
        if ignored:
            raise ValueError(
                f"the rule `{self.rule_name}` ignores {' and '.join(ignored)}; remove "
                f"{'it' if len(ignored) == 1 else 'them'}, or choose another `rule`"
            )
        return self

    def _differs(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)

    @property
    def rule_name(self) -> RuleName:
        """The rule in use: a recipe that names a setting of `thresholds` keeps that rule."""
        if self.rule is not None:
            return self.rule
        return "thresholds" if self.model_fields_set.intersection(THRESHOLD_SETTINGS) else "expected"


class Evaluation(Section):
    """How models are evaluated."""

    metric: str | None = Field(
        None, description="Metric for early stopping and the gate. Default: the objective's first."
    )
    slices: list[Literal["label", "length", "source", "window"]] = Field(
        ["label", "length", "window"],
        description="How test rows are sliced. `window`: rows that the champion knew, by time of arrival.",
    )
    window: int | None = Field(
        None,
        ge=100,
        description="Score only the newest rows: so many of the validation split, and so many of the test rows that "
        "the champion knew. Default: all, which takes longer as the corpus grows.",
    )
    bootstrap: int = Field(2000, ge=200, le=100_000, description="Bootstrap resamples for each confidence interval.")
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="Precision of evaluation and serving.")
    robustness: Robustness | None = Field(None, description="Behavioural tests. Default: none.")
    gate: Gate = Field(default_factory=Gate, description="Rule for promotion.")


class Registry(Section):
    """What happens to a challenger that passes the gate."""

    promote: Literal["auto", "ask"] = Field(
        "auto", description="`auto`: promote at once; `ask`: wait for `evertune approve`."
    )
    expires: str = Field(
        "30 days",
        description="How long a challenger may wait for approval, such as `14 days`; `never`: forever.",
    )
    model: str | None = Field(None, description="Name of the registered model. Default: the recipe's name.")

    @field_validator("expires")
    @classmethod
    def _check_days(cls, expires: str) -> str:
        if not re.fullmatch(r"[1-9]\d{0,3} days?|never", expires):
            raise ValueError("write a number of days, such as `14 days`, or `never`")
        return expires

    @field_validator("model")
    @classmethod
    def _check_name(cls, name: str | None) -> str | None:
        """Refuse what MLflow would refuse after the training, and what no page or terminal shows as it is."""
        if name is None:
            return None
        if wrong := next((character for character in name if character in "/:" or not character.isprintable()), None):
            raise ValueError(f"a model's name must not contain {wrong!r}; use letters, digits, '-', '_' and '.'")
        if not name.strip() or name != name.strip() or len(name) > LONGEST_NAME:
            raise ValueError(f"write 1 to {LONGEST_NAME} characters, without spaces at the ends")
        return name

    @property
    def waiting_time(self) -> timedelta | None:
        """How long a challenger may wait for approval; None: forever."""
        return None if self.expires == "never" else timedelta(days=int(self.expires.split()[0]))


class Monitor(Section):
    """When new rows count as drifted from those that the champion was trained on."""

    false_alarms: float = Field(0.05, ge=0.01, lt=0.5, description="Probability of a false alarm in `checks` checks.")
    checks: int = Field(
        1, ge=1, le=366, description="Number of checks that `false_alarms` covers, such as 52 weekly ones."
    )
    min_rows: int = Field(30, ge=2, description="Fewer rows than this on either side are not compared.")

    @property
    def level(self) -> float:
        """The p-value below which one check reports drift (Sidak 1967)."""
        return float(1 - (1 - self.false_alarms) ** (1 / self.checks))


Hours = Annotated[float, Field(ge=0, le=8784)]


class Triggers(Section):
    """What makes the monitor start a retraining, in addition to the deployment's `schedule`."""

    drift: bool = Field(True, description="Retrain on drift of any kind; `monitor` sets the rate of false alarms.")
    new_labels: int | None = Field(
        None,
        ge=1,
        description="Retrain after this many new rows since the champion; rewritten rows do not count. Default: never.",
    )
    performance_drop: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Retrain when the share of right answers has dropped significantly by this much. Default: never.",
    )
    cooldown: Hours = Field(24.0, description="Hours after a triggered start during which a trigger starts nothing.")
    cooldowns: dict[Literal["drift", "new_labels", "performance_drop"], Hours] = Field(
        default_factory=dict, description="Trigger -> hours, instead of `cooldown`."
    )
    budget: float | None = Field(
        None,
        gt=0,
        le=168,
        description="Hours of training in 7 days; once they are used up, triggers start nothing. Default: no limit.",
    )

    def cooldown_of(self, name: str) -> float:
        """Return the cooldown of a trigger, in hours."""
        return {str(trigger): hours for trigger, hours in self.cooldowns.items()}.get(name, self.cooldown)


class Retention(Section):
    """What `evertune clean` keeps whatever its age; the rest is removed once it is `days` old."""

    runs: int = Field(20, ge=1, description="Number of the newest versions, and of the newest run folders, to keep.")
    predecessors: int | None = Field(
        None, ge=1, description="Number of earlier champions to keep for a rollback. Default: all."
    )
    days: int = Field(30, ge=0, description="Nothing younger than this many days is removed.")


class Schedule(Section):
    """When the deployment runs. It repeats the entry in deployments/prefect.yaml, which is the one that counts."""

    cron: str = Field(description="Five fields (minute, hour, day, month, weekday), the same as in the deployment.")
    timezone: str = Field("UTC", description="Time zone of the cron fields, such as `Europe/Berlin`.")

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, cron: str) -> str:
        from cronsim import CronSim, CronSimError

        if len(cron.split()) != 5:
            raise ValueError("must have five fields: minute, hour, day, month, weekday")
        try:
            CronSim(cron, datetime(2000, 1, 1))
        except CronSimError as error:
            raise ValueError(f"{str(error).lower()}; the fields are minute, hour, day, month, weekday") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _is_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError):
            raise ValueError(f"unknown time zone; {suggest_zone(zone)}") from None
        return zone


class Recipe(Section):
    """Everything about one model: data, contract, objective, training, evaluation, registry, monitor."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{1,62}$",
        description="Name of the MLflow experiment, the registered model and the deployment.",
    )
    objective: Annotated[Options, Field(discriminator="type")] = Field(description="What the model is tuned for.")
    base_model: str = Field(
        description="A hub id, a folder, `package:NAME/FOLDER` in an installed package, a decoder's `.gguf` file, or "
        "`champion:NAME`, the champion of another recipe, such as one that continues pretraining."
    )
    data: Data = Field(description="Where rows come from.")
    contract: Contract = Field(default_factory=Contract, description="What a row must satisfy.")
    training: Training = Field(default_factory=Training, description="How the weights change.")
    evaluation: Evaluation = Field(default_factory=Evaluation, description="How models are evaluated.")
    registry: Registry = Field(
        default_factory=Registry, description="What happens to a challenger that passes the gate."
    )
    monitor: Monitor = Field(default_factory=Monitor, description="When new rows count as drifted.")
    notify: Notify = Field(default_factory=Notify, description="Who is notified of how a run ended.")
    triggers: Triggers = Field(default_factory=Triggers, description="What makes the monitor start a retraining.")
    retention: Retention = Field(default_factory=Retention, description="What `evertune clean` keeps.")
    schedule: Schedule | None = Field(
        None, description="When the deployment runs; `evertune up` compares it with deployments/prefect.yaml."
    )
    folder: Path = Field(Path(), description="Folder that relative paths start from; set when the file is loaded.")
    file: str = Field("", description="Name of the recipe's file in that folder; set when the file is loaded.")

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
            raise ValueError(
                f"data.columns: several roles are read from {', '.join(repeated)}; give each role its own column"
            )
        if self.training.class_weights != "none" and not objective.LABELED:
            raise ValueError(f"training.class_weights: the targets of {self.objective.type} are not labels; remove it")
        if self.data.fresh.examples_per_label and not objective.LABELED:
            raise ValueError(
                f"data.fresh.examples_per_label: the targets of {self.objective.type} are not labels; remove it"
            )
        if self.contract.label != LabelRules() and not objective.LABELED:
            raise ValueError(f"contract.label: the targets of {self.objective.type} are not labels; remove it")
        self._check_settings()
        self._check_loss()
        self._check_robustness()
        self._check_baseline()
        required_metrics = {self.metric, *self.evaluation.gate.minimum}
        if missing := sorted(required_metrics - set(objective.METRICS)):
            raise ValueError(
                f"evaluation: unknown metric {', '.join(missing)}; choose from {', '.join(objective.METRICS)}"
            )
        for metric, minimum in self.evaluation.gate.minimum.items():
            if problem := describe_unreachable(objective, metric, minimum):
                raise ValueError(f"evaluation.gate.minimum.{metric}: {problem}")
        if objective.has_own_tokenizer and (self.training.method != "full" or self.training.adversarial):
            key = "method" if self.training.method != "full" else "adversarial"
            raise ValueError(f"training.{key}: works on token ids, which {self.objective.type} does not use; remove it")
        training = self.training
        if problem := describe_misfit(
            training.method, self.objective, objective.finishes_model, training.train_top_layers, training.freeze
        ):
            raise ValueError(f"training.method: {problem}")
        return self

    def _check_settings(self) -> None:
        """Raises ValueError where a setting of `training` would have no effect."""
        for name, reason in load_objective(self.objective.type).IGNORED_SETTINGS.items():
            if getattr(self.training, name) != Training.model_fields[name].default:
                raise ValueError(f"training.{name}: has no effect for {self.objective.type}: {reason}; remove it")

    def _check_loss(self) -> None:
        """Raises ValueError where the loss or the number of processes does not fit the objective."""
        if problem := describe_unlearnable(self.training, self.objective.type):
            raise ValueError(f"training.{problem}")
        if self.training.processes > 1 and load_objective(self.objective.type).COUPLED:
            raise ValueError(
                f"training.processes: {self.objective.type} learns from all pairs of a batch, so the batch cannot be "
                "split among processes; set it to 1"
            )

    def _check_baseline(self) -> None:
        """Raises ValueError where the gate asks for a simple model that the objective does not have."""
        if self.evaluation.gate.above_baseline and not load_objective(self.objective.type).has_labeled_texts:
            raise ValueError(
                f"evaluation.gate.above_baseline: there is no simple model for {self.objective.type}; remove it"
            )

    def _check_robustness(self) -> None:
        """Raises ValueError where the gate uses a test that is not run, or a test does not fit the objective."""
        thresholds = self.evaluation.gate.robustness
        tests = self.evaluation.robustness
        if tests and self.objective.type not in ("text-classification", "token-classification"):
            raise ValueError(f"evaluation.robustness: not available for {self.objective.type}; remove it")
        if tests and tests.opposites and self.objective.type != "text-classification":
            raise ValueError(
                "evaluation.robustness.opposites: the negation test adds a word, which would have no tag; remove it"
            )
        listed = self.contract.label.values
        if tests and listed != "inferred" and (unknown := tests.find_unknown_labels(listed)):
            near = difflib.get_close_matches(unknown[0], listed, 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"it lists {', '.join(listed)}"
            raise ValueError(f"evaluation.robustness.opposites: contract.label.values has no {unknown[0]}; {hint}")
        if missing := [name for name in thresholds if tests is None or name not in tests.names]:
            raise ValueError(
                f"evaluation.gate.robustness: the test {missing[0]} is not run; "
                + (
                    "set evaluation.robustness.opposites"
                    if missing[0] == "negation"
                    else "add it to evaluation.robustness.tests"
                )
            )

    @property
    def metric(self) -> str:
        """The metric for early stopping and the gate."""
        return self.evaluation.metric or load_objective(self.objective.type).METRICS[0]

    @property
    def registered_name(self) -> str:
        """The registered model's name in MLflow."""
        return self.registry.model or self.name

    def column(self, role: str) -> str:
        """Return the source's column for a role: the one that the recipe names, else the column of that name."""
        return self.data.columns.get(role, role)
