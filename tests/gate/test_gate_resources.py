"""A bound on what a challenger takes, and the simple model that it must beat; both only if the recipe asks."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evertune.config import Gate, load_recipe
from evertune.errors import ConfigError
from evertune.gate.decide import Case, Scored, decide_promotion
from evertune.gate.resources import read_baseline, read_ratios
from evertune.records import Decision
from tests.helpers.gate import accuracy, both, stats


def decide(rule: Gate, champion: bool = True, **facts: Any) -> Decision:
    """Decide on a challenger that is better by 8 points on 600 rows."""
    new, old = both(600, 0.1, 0.02)
    scored = Scored(new, old if champion else None, np.ones(600, bool), {}, majority=stats(np.arange(600) % 4 == 0))
    return decide_promotion(replace(Case(scored, accuracy, "accuracy", rule, (), 1, 200, 3), **facts))


@pytest.mark.parametrize(("ratio", "verdict"), [(1.2, "promoted"), (1.21, "rejected"), (None, "held")])
def test_more_than_the_recipe_allows_rejects(ratio: float | None, verdict: str) -> None:
    rule = Gate(resources={"latency": 1.2})
    decision = decide(rule, ratios={} if ratio is None else {"latency": ratio, "size": 9.0})
    assert decision.verdict == verdict, decision.reason
    if ratio == 1.21:
        assert decision.reason == "Takes 1.21 times the champion's time for a row (maximum: 1.2)."
        evidence = next(item for item in decision.evidence if item["test"] == "resources")
        assert (evidence["metric"], evidence["challenger"], evidence["threshold"]) == ("latency", 1.21, 1.2)


def test_a_first_version_has_nothing_to_be_compared_with() -> None:
    assert decide(Gate(resources={"size": 1.0}), champion=False).verdict == "promoted"


@pytest.mark.parametrize("champion", [True, False])
@pytest.mark.parametrize(("value", "verdict"), [(0.5, "promoted"), (0.99, "held"), (None, "held")])
def test_no_better_than_a_simple_model_is_held(value: float | None, verdict: str, champion: bool) -> None:
    baseline = {} if value is None else {"accuracy": value}
    decision = decide(Gate(above_baseline=True), champion, baseline=baseline)
    assert decision.verdict == verdict, decision.reason
    assert decide(Gate(), champion, baseline=baseline).verdict == "promoted"


def test_what_was_not_measured_is_no_number() -> None:
    assert read_ratios(None) == read_baseline(None) == {}
    assert read_baseline({"metrics": {"accuracy": 0.5, "ece": None}}) == {"accuracy": 0.5}


def test_a_recipe_of_tags_cannot_ask_for_a_simple_model() -> None:
    with pytest.raises(ConfigError, match="there is no simple model for token-classification; remove it"):
        load_recipe("configs/ner_conll2003.yaml", ["evaluation.gate.above_baseline=true"])
