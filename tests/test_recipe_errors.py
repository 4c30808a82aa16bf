"""An error inside a section of several kinds is told with the path that the file has."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from evertune.config import Recipe, load
from evertune.config.data import SOURCE_MODELS
from evertune.config.load import _members
from evertune.config.losses import ClassBalanced, Fgm, Focal, FreeLb, Pgd
from evertune.config.methods import METHODS
from evertune.errors import ConfigError
from evertune.objectives import TABLE, module


def told(folder: Path, **sections: Any) -> str:
    """What is wrong with a recipe that has these sections."""
    tree = {
        "name": "wrong", "objective": {"type": "text-classification"}, "base_model": "base",
        "data": {"sources": [{"path": "rows.csv"}]}, **sections,
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    with pytest.raises(ConfigError) as raised:
        load(folder / "recipe.yaml")
    return str(raised.value)


KINDS: list[tuple[str, Any, type[BaseModel]]] = [
    *(("training.adversarial", one.__name__.lower(), one) for one in (Fgm, Pgd, FreeLb)),
    ("training.loss", "focal", Focal), ("training.loss", "class-balanced", ClassBalanced),
    *(("training.method", name, one) for name, one in METHODS.items()),
    *(("objective", name, module(name).Options) for name in TABLE),
]  # fmt: skip


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


def test_every_union_of_sections_names_its_members() -> None:
    def unions(model: type[BaseModel]) -> Any:
        for field in model.model_fields.values():
            found = list(_members(field.annotation))
            yield [name for name, _ in found]
            for _, member in found:
                yield from unions(member)

    assert all(len(names) == len(set(names)) for names in unions(Recipe))
