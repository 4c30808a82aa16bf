"""An error inside a section of several kinds is told with the path that the file has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from evertune.config import Recipe, Training, load_recipe
from evertune.config.data import SOURCE_MODELS
from evertune.config.load import _list_sections
from evertune.config.losses import ClassBalanced, Fgm, Focal, FreeLb, Pgd
from evertune.config.methods import METHODS
from evertune.errors import ConfigError
from evertune.objectives import TABLE, load_objective


def told(folder: Path, **sections: Any) -> str:
    """What is wrong with a recipe that has these sections."""
    tree = {
        "name": "wrong",
        "objective": {"type": "text-classification"},
        "base_model": "base",
        "data": {"sources": [{"path": "rows.csv"}]},
        **sections,
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as raised:
        load_recipe(folder / "recipe.yaml")
    return str(raised.value)


KINDS: list[tuple[str, Any, type[BaseModel]]] = [
    *(("training.adversarial", one.__name__.lower(), one) for one in (Fgm, Pgd, FreeLb)),
    ("training.loss", "focal", Focal),
    ("training.loss", "class-balanced", ClassBalanced),
    *(("training.method", name, one) for name, one in METHODS.items()),
    *(("objective", name, load_objective(name).Options) for name in TABLE),
]


@pytest.mark.parametrize(("path", "name", "kind"), KINDS, ids=[f"{path}-{name}" for path, name, _ in KINDS])
def test_a_mistyped_option_is_told_with_the_path_that_the_file_has(
    tmp_path: Path, path: str, name: str, kind: type[BaseModel]
) -> None:
    near = next(one for one in kind.model_fields if one != "type")
    first, _, last = path.partition(".")
    given: Any = {"type": name, f"{near}n": 1, near: {}}
    found = told(tmp_path, **{first: {last: given} if last else given})
    assert f"  {path}.{near}n: unknown key; did you mean {near}?" in found
    assert f"  {path}.{near}: " in found, found


@pytest.mark.parametrize("name", SOURCE_MODELS)
def test_so_is_one_of_a_source(tmp_path: Path, name: str) -> None:
    found = told(tmp_path, data={"sources": [{"path": "rows.csv"}, {name: "x", "splitt": "train"}]})
    assert "data.sources.1.splitt: unknown key; did you mean split?" in found, found


@pytest.mark.parametrize(
    ("name", "training", "words"),
    [
        ("embedding", {"class_weights": "balanced"}, "the encoder learns from pairs"),
        ("embedding", {"label_smoothing": 0.1}, "the encoder learns from pairs"),
        ("pair-regression", {"label_smoothing": 0.1}, "targets are numbers"),
        ("image-tokens", {"label_smoothing": 0.1}, "pictures are learned"),
        ("image-tokens", {"head_learning_rate": 0.1}, "the network has no head"),
        *(
            (name, {"head_learning_rate": 0.1}, "the base model's own output layer")
            for name in ("seq2seq", "causal-lm", "chat")
        ),
    ],
)
def test_a_setting_that_an_objective_has_no_use_for_is_refused(
    tmp_path: Path, name: str, training: dict[str, Any], words: str
) -> None:
    found = told(tmp_path, objective={"type": name}, training=training)
    assert f"training.{next(iter(training))}: has no effect for {name}: {words}" in found, found


def test_reasons_are_given_for_settings_that_there_are() -> None:
    for name in TABLE:
        assert load_objective(name).IGNORED_SETTINGS.keys() <= Training.model_fields.keys(), name


def test_every_union_of_sections_names_its_members() -> None:
    def unions(model: type[BaseModel]) -> Any:
        for field in model.model_fields.values():
            found = list(_list_sections(field.annotation))
            yield [name for name, _ in found]
            for _, member in found:
                yield from unions(member)

    assert all(len(names) == len(set(names)) for names in unions(Recipe))
