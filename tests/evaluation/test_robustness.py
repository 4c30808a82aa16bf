"""Behavioural tests: small changes of test rows, what they do to the answers, and what the gate makes of it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evertune.config.robustness import Robustness
from evertune.evaluation.perturbations import perturb_text
from evertune.evaluation.robustness import evaluate_robustness, measure_robustness
from evertune.gate.robustness import judge_robustness
from evertune.objectives import text_classification, token_classification
from evertune.report.sections.evidence import build_robustness
from tests.helpers.model import TOKENS, recipe, split_rows, train

LISTED: dict[str, Any] = {"contract": {"label": {"values": ["good", "bad"]}}}
TEXT = "Where is the parcel that Anna sent me yesterday?"


@pytest.mark.parametrize("test", ["typos", "case", "punctuation", "names"])
def test_a_change_is_the_same_each_time_and_keeps_the_number_of_words(test: str) -> None:
    words = TEXT.split()
    found = perturb_text(test, words, 17)
    assert found == perturb_text(test, words, 17) != words
    assert len(found) == len(words)
    assert perturb_text(test, TEXT, 17) == " ".join(found)
    assert perturb_text(test, "", 17) == "" and perturb_text(test, [], 17) == []


def test_each_change_is_what_its_name_says() -> None:
    words = perturb_text("typos", TEXT, 17)
    assert isinstance(words, str) and sorted(words) == sorted(TEXT)
    assert perturb_text("case", TEXT, 17) == TEXT.upper() and perturb_text("case", TEXT.upper(), 17) == TEXT.lower()
    assert perturb_text("punctuation", TEXT, 17) == TEXT[:-1]
    assert "Anna" not in perturb_text("names", TEXT, 17)
    assert perturb_text("negation", "it is good", 17) == "it is not good"
    assert perturb_text("names", "no name here", 17) == "no name here"


def _shouting(given: list[Any]) -> list[dict[str, Any]]:
    """A model that only reads small letters."""
    return [{"label": "good" if one == one.lower() and "not" not in one else "bad", "score": 1.0} for one in given]


def test_what_a_change_does_to_right_answers_is_measured_and_rejects() -> None:
    inputs = [f"it is good {number}" for number in range(40)]
    targets = ["good"] * 40
    rule = Robustness(tests=["case", "names"], opposites={"good": "bad"})
    said = {"challenger": _shouting(inputs)}
    found = measure_robustness(rule, text_classification, {"challenger": _shouting}, inputs, targets, said)
    assert found["case"] == {"rows": 40, "models": {"challenger": {"before": 1.0, "after": 0.0, "unchanged": 0.0}}}
    assert found["names"]["rows"] == 0 and found["names"]["models"]["challenger"]["after"] is None
    assert found["negation"]["models"]["challenger"] == {"before": 1.0, "after": 1.0, "unchanged": 0.0}
    asked = {"tests": rule.tests, "opposites": rule.opposites}
    gate = recipe(
        Path("base"),
        evaluation={"robustness": asked, "gate": {"robustness": {"case": 0.05, "negation": 0.0, "names": 0.1}}},
    ).evaluation.gate
    harm, fine, few = judge_robustness(gate, found)
    assert (harm.state, fine.state, few.state) == ("harm", "passed", "inconclusive")
    assert harm.message == "Robustness test 'case': 100.0 points fewer right answers on 40 rows (maximum: 5.0 points)."
    assert harm.evidence is not None and harm.evidence["passed"] is False
    assert next(judge_robustness(gate, {})).state == "inconclusive"
    assert "negation" in [row[0] for row in build_robustness({"robustness": found}).rows]
    assert not build_robustness({}).rows


def test_words_keep_their_tags() -> None:
    def tags(given: list[Any]) -> list[dict[str, Any]]:
        return [{"tags": ["B-PER" if word.istitle() else "O" for word in words]} for words in given]

    inputs = [["Anna", "came", "home"]]
    targets = [["B-PER", "O", "O"]]
    found = measure_robustness(
        Robustness(tests=["case"]),
        token_classification,
        {"challenger": tags},
        inputs,
        targets,
        {"challenger": tags(inputs)},
    )
    assert found["case"]["models"]["challenger"] == {"before": 1.0, "after": 2 / 3, "unchanged": 2 / 3}


@pytest.mark.parametrize(
    ("objective", "evaluation", "words"),
    [
        ({}, {"gate": {"robustness": {"typos": 0.1}}}, "the test typos is not run"),
        ({}, {"robustness": {}, "gate": {"robustness": {"negation": 0.1}}}, "set evaluation.robustness.opposites"),
        (TOKENS, {"robustness": {"opposites": {"O": "O"}}}, "adds a word, which would have no tag"),
        (
            {"type": "text-classification"},
            {"robustness": {"opposites": {"good": "badd"}}},
            r"contract.label.values has no badd; did you mean bad\?",
        ),
        ({"type": "pair-regression"}, {"robustness": {}}, "not available for pair-regression"),
    ],
)
def test_tests_that_do_not_fit_are_refused(objective: Any, evaluation: Any, words: str) -> None:
    listed = LISTED if objective != {"type": "pair-regression"} else {}
    with pytest.raises(ValidationError, match=words):
        recipe(Path("base"), *([objective] if objective else []), evaluation=evaluation, **listed)


def test_an_opposite_that_no_row_has_is_told_by_check_and_by_the_run(
    evertune: Any, tiny_recipe: Any, tiny_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rule = {"robustness": {"tests": ["case"], "opposites": {"card": "refund", "refund": "nolabel"}}}
    done = evertune("check", tiny_recipe(evaluation=rule))
    assert done.status == 0 and "opposites: no row has the label nolabel" in done.out, done
    assert "no row has the label refund" not in done.out
    one = recipe(tiny_model, evaluation=rule, training={"epochs": 1})
    rows = [{"text": f"my card was lost {number}", "label": ("card", "refund")[number % 2]} for number in range(8)]
    made = Path(train(one, tmp_path, split_rows(rows), ["card", "refund"]).bundle)
    inputs = [row["text"] for row in rows]
    targets = [row["label"] for row in rows]
    evaluate_robustness(
        one, text_classification, made, None, inputs, targets, {"challenger": [{"label": "card"}] * len(rows)}
    )
    assert "the model does not know the label nolabel" in caplog.text and "refund" not in caplog.text
