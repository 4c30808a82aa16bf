"""What YAML cannot say twice, in too many aliases or as a value that Python cannot hold, is refused with its line."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evertune.config import Recipe, load_recipe
from evertune.config.load import load_search
from evertune.config.time_zones import suggest_zone
from evertune.config.yaml_text import parse_yaml
from evertune.errors import ConfigError

BASE = {
    "name": "test",
    "objective": {"type": "text-classification"},
    "base_model": "base",
    "data": {"sources": [{"path": "rows.csv"}]},
}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(BASE) + text)
    return path


def read_error(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as raised:
        load_recipe(path, overrides)
    return str(raised.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", "the key 'a' is in lines 1 and 3"),
        ("x:\n  b: 1\n  'b': 2\n", "the key 'b' is in lines 2 and 3"),
        ("{a: 1, a: 1}", "the key 'a' is twice in line 1"),
        ("1: a\n0x1: b\n", "the key '0x1' is in lines 1 and 2"),
        ("- {x: [{y: 1, y: 2}]}", "the key 'y' is twice in line 1"),
        (BOMB, "more than 100,000 values"),
        ("a: &a [*a]", "an alias stands for itself"),
        (f"[{'9' * 5000}]", "cannot be read"),
        (f"[0x{'f' * 5000}]", "too large a number"),
        ("2026-13-01", "cannot be read"),
        ("!!int x", "cannot be read"),
        ("!!bool x", "cannot be read"),
        ("!!timestamp x", "cannot be read"),
        ("[" * 20_000, "nested too deeply"),
    ],
)
def test_a_trap_is_an_error_with_its_line(text: str, words: str) -> None:
    with pytest.raises(yaml.YAMLError, match=words):
        parse_yaml(text)


def test_merged_keys_may_be_replaced() -> None:
    assert parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, x: 3}\nc: {<<: *a}") == {
        "a": {"x": 1, "y": 2},
        "b": {"x": 3, "y": 2},
        "c": {"x": 1, "y": 2},
    }


@given(st.text())
def test_any_text_is_a_value_or_a_yaml_error(text: str) -> None:
    with contextlib.suppress(yaml.YAMLError):
        parse_yaml(text)


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(2**63, 2**900)
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=4)
    | st.sampled_from(["UTC+2", "a.b", "${X}", "-", "0", "1e-4"])
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.integers() | st.sampled_from(["type", "search", "path"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


def list_keys(model: Any, prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    keys: list[tuple[str, ...]] = []
    for name, field in model.model_fields.items():
        keys.append((*prefix, name))
        if isinstance(field.annotation, type) and hasattr(field.annotation, "model_fields"):
            keys += list_keys(field.annotation, (*prefix, name))
    return keys


KEYS = [key for key in list_keys(Recipe) if key[0] not in {"folder", "file"}] + [
    ("objective", "type"),
    ("data", "sources", "0"),
    ("data", "sources", "0", "path"),
    ("contract", "expectations", "0"),
]


@given(st.sampled_from(KEYS), VALUES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_at_any_key_is_a_recipe_or_a_config_error(
    tmp_path: Path, key: tuple[str, ...], value: object
) -> None:
    tree: Any = {**BASE, "data": {"sources": [{"path": "rows.csv"}]}}
    node = tree
    for part in key[:-1]:
        node = (
            node[int(part)]
            if isinstance(node, list)
            else node.setdefault(part, [None] if part == "expectations" else {})
        )
    if isinstance(node, list):
        node[int(key[-1])] = value
    else:
        node[key[-1]] = value
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tree))
    for load in (load_recipe, load_search):
        try:
            load(path)
        except ConfigError as error:
            assert str(error)


@given(st.sampled_from([".".join(key) for key in KEYS] + ["name.x", "data.sources.x", "data.sources.9"]), st.text())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_override_is_a_recipe_or_a_config_error(tmp_path: Path, key: str, text: str) -> None:
    path = write_recipe(tmp_path, "")
    try:
        load_recipe(path, [f"{key}={text}"])
    except ConfigError as error:
        assert str(error)


def test_an_override_below_a_value_is_told(tmp_path: Path) -> None:
    assert "its parent is the value 'test'" in read_error(write_recipe(tmp_path, ""), "name.x=1")


def test_a_repeated_section_is_told_with_both_lines(tmp_path: Path) -> None:
    message = read_error(write_recipe(tmp_path, "training: {epochs: 9}\ntraining: {seed: 3}\n"))
    assert "recipe.yaml: not valid YAML: the key 'training' is in lines" in message


@pytest.mark.parametrize(
    ("objective", "minimum", "words"),
    [
        (
            "text-classification",
            "{accuracy: 50}",
            "accuracy: no version can pass 50: accuracy is never above 1; for 50% write 0.5",
        ),
        ("text-classification", "{ece: -0.1}", "ece is never below 0, and lower is better"),
        ("text-classification", "{accuracy: .nan}", "write a number, not nan"),
        ("masked-lm", "{perplexity: 0.5}", "perplexity is never below 1"),
        ("pair-regression", "{spearman: 70}", "spearman is never above 1"),
        ("question-answering", "{f1: 80}", "for 80% write 0.8"),
    ],
)
def test_a_minimum_that_nothing_can_pass_is_refused(tmp_path: Path, objective: str, minimum: str, words: str) -> None:
    path = write_recipe(tmp_path, f"evaluation: {{gate: {{minimum: {minimum}}}}}\n")
    message = read_error(path, f"objective.type={objective}")
    assert words in message, message


@pytest.mark.parametrize(
    ("objective", "minimum"),
    [
        ("text-classification", "{accuracy: 1, ece: 0}"),
        ("masked-lm", "{perplexity: 40}"),
        ("image-tokens", "{psnr: 20}"),
    ],
)
def test_a_minimum_in_reach_is_kept(tmp_path: Path, objective: str, minimum: str) -> None:
    load_recipe(
        write_recipe(tmp_path, f"evaluation: {{gate: {{minimum: {minimum}}}}}\n"), [f"objective.type={objective}"]
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ("[0, 1]", "contract.label.values: 0 is not a text; put each label in quotes, such as '0', '1'"),
        ("[a, yes]", "put each label in quotes, such as 'yes' or 'true'"),
        ("[a, null]", "put each label in quotes, such as 'null'"),
        ("[1.0, b]", "put each label in quotes, such as '1.0'"),
        ("[2026-01-01, b]", "put each label in quotes, such as '2026-01-01'"),
    ],
)
def test_labels_that_are_no_texts_are_told_to_be_quoted(tmp_path: Path, values: str, words: str) -> None:
    message = read_error(write_recipe(tmp_path, f"contract: {{label: {{values: {values}}}}}\n"))
    assert words in message and message.count("contract.label") == 1, message


def test_so_is_a_new_name(tmp_path: Path) -> None:
    message = read_error(write_recipe(tmp_path, "contract: {label: {rename: {a: 1}}}\n"))
    assert "contract.label.rename.a: Input should be a valid string; put it in quotes, not 1" in message, message


@pytest.mark.parametrize("name", ["a/b", "a:b", '"a\\nb"', '""', "' a'", '"a\\eb"', f"{'a' * 300}"])
def test_a_model_name_that_the_registry_refuses_is_told_before_training(tmp_path: Path, name: str) -> None:
    assert "registry.model" in read_error(write_recipe(tmp_path, f"registry: {{model: {name}}}\n"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("UTC+2", "write Etc/GMT-2"),
        ("GMT-05:00", "write Etc/GMT+5"),
        ("+05:30", "Asia/Kolkata"),
        ("UTC+0", "write UTC"),
        ("PST", "America/Los_Angeles"),
        ("CEST", "Europe/Berlin"),
        ("Europe/Berlni", "did you mean Europe/Berlin?"),
    ],
)
def test_the_hint_for_a_time_zone_does_not_shift_the_hour(text: str, words: str) -> None:
    assert words in suggest_zone(text)
