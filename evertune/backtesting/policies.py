"""Retraining policies: when to retrain, and when to promote the challenger."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from evertune.config import Gate, Recipe
from evertune.errors import ConfigError

RULES = ("expected", "proof", "thresholds")
RULE_SETTINGS = {  # the settings that only some rules obey
    "expected": ("superior_on", "noninferior_on"),
    "proof": ("superior_on", "noninferior_on", "caution"),
    "thresholds": ("caution", "half_life"),
}


@dataclass(frozen=True)
class Policy:
    """A retraining policy.

    Args:
        name: as given on the command line.
        retrains: `always` (at the end of each period), `never`, or `drift` (if drift is found there).
        gated: whether the gate decides on a promotion; otherwise every challenger is promoted.
        lenient: whether a challenger that the gate holds is promoted too.
        gate: settings of the gate that differ from the recipe's, as (name, value).
        period: number of windows between two occasions to retrain.
    """

    name: str
    retrains: str
    gated: bool
    lenient: bool = False
    gate: tuple[tuple[str, object], ...] = ()
    period: int = 1

    def apply_gate(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the policy's gate.

        Raises:
            ConfigError: the gate has no such setting, or its value is not valid.
        """
        if not self.gate:
            return recipe
        gate = change_gate(recipe.evaluation.gate, dict(self.gate), self.name)
        rules = recipe.evaluation.model_copy(update={"gate": gate})
        return recipe.model_copy(update={"evaluation": rules})


TABLE = {
    "never": Policy("never", "never", gated=False),
    "always": Policy("always", "always", gated=False),
    "gated": Policy("gated", "always", gated=True),
    "gated-test": Policy("gated-test", "always", gated=True, gate=(("rule", "thresholds"), ("superior_on", "test"))),
    "drift": Policy("drift", "drift", gated=True),
    "unless-harm": Policy("unless-harm", "always", gated=True, lenient=True),
}


def change_gate(gate: Gate, changes: dict[str, object], name: str) -> Gate:
    """Return the gate with other settings; those that another rule ignores are dropped.

    Args:
        gate: of the recipe.
        changes: setting -> value.
        name: what the message calls the changed gate.
    Raises:
        ConfigError: the gate has no such setting, or its value is not valid.
    """
    from pydantic import ValidationError

    settings: dict[str, object] = {field: getattr(gate, field) for field in gate.model_fields_set}
    rule = changes.get("rule") or _find_rule(changes, gate.rule_name)
    settings = {field: value for field, value in settings.items() if field not in RULE_SETTINGS.get(str(rule), ())}
    try:
        return Gate.model_validate({**settings, "rule": rule, **changes})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name}: evaluation.gate{'.' if place else ''}{place}: {reason}") from None


def _find_rule(changes: dict[str, object], current: str) -> str:
    """Return the rule that obeys the changed settings: the gate's own if it does."""
    for rule in (current, "expected", "thresholds"):
        if not set(changes) & set(RULE_SETTINGS[rule]):
            return rule
    return current


def parse_policies(names: str) -> list[Policy]:
    """Parse policies by name, each with an optional period: `never,always,gated:4`.

    Raises:
        ConfigError: a policy is unknown, its period is not a number, or no policy is named.
    """
    unique_names = dict.fromkeys(name.strip() for name in names.split(","))
    policies = [_parse_policy(name) for name in unique_names if name]
    if not policies:
        raise ConfigError(f"--policies: no policy is named; choose from {', '.join(TABLE)}")
    return policies


def parse_gates(text: str) -> list[Policy]:
    """Parse gates to try: `expected,caution=12,proof`. Each is a policy that retrains always, with that gate.

    Raises:
        ConfigError: a gate is neither a rule nor SETTING=VALUE.
    """
    return [_parse_gate(name.strip()) for name in dict.fromkeys(text.split(",")) if name.strip()]


def _parse_gate(name: str) -> Policy:
    import yaml

    from evertune.config.yaml_text import parse_yaml

    if name in RULES:
        return Policy(name, "always", gated=True, gate=(("rule", name),))
    setting, equals, value = name.partition("=")
    if not equals or setting not in Gate.model_fields:
        matches = difflib.get_close_matches(setting, [*RULES, *Gate.model_fields], 1)
        hint = f"did you mean {matches[0]}?" if matches else f"choose from {', '.join(RULES)}, or write caution=12"
        raise ConfigError(f"--gates: {name} is neither a rule nor a setting of evaluation.gate; {hint}")
    try:
        parsed = parse_yaml(value)
    except yaml.YAMLError:
        raise ConfigError(f"--gates: {name}: the value is not YAML") from None
    return Policy(name, "always", gated=True, gate=((setting, parsed),))


def _parse_policy(name: str) -> Policy:
    kind, _, period = name.partition(":")
    if kind not in TABLE:
        matches: Sequence[str] = difflib.get_close_matches(kind, TABLE, 1)
        hint = f"did you mean {matches[0]}?" if matches else f"choose from {', '.join(TABLE)}"
        raise ConfigError(f"--policies: no policy {kind}; {hint}")
    if period and not (period.isdecimal() and int(period)):
        raise ConfigError(f"--policies: {name}: give a number of windows, such as {kind}:4")
    return replace(TABLE[kind], name=name, period=int(period or 1))
