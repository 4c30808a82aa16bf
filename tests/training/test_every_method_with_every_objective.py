"""Every way of tuning with every objective: it changes what is learned, or the recipe is refused by check."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from evertune import objectives
from evertune.config import Recipe
from evertune.errors import ConfigError
from evertune.training import initial_model as start
from tests.helpers.model import recipe, table, train, weights
from tests.helpers.objective_samples import SAMPLES, labels_of, short

WAYS: dict[str, Any] = {
    "adversarial": {"type": "fgm", "epsilon": 1.0},
    "layer_decay": 0.5,
    "student": {"layers": 1},
    "ema": 0.5,
    "mixout": 0.5,
    "label_smoothing": 0.3,
    "r_drop": 5.0,
}
TWO_STEPS = {"epochs": 2, "tokens_per_batch": 8192, "learning_rate": 5e-3}  # in the first an average or mix is nothing
ROWS = 8


@dataclass(frozen=True)
class Lab:
    """An objective with its tiny base model."""

    name: str
    base: Path
    folder: Path

    def checked(self, **training: Any) -> Recipe:
        """A recipe, once `evertune check` has found that it fits the model."""
        options = {"type": self.name, **short(self.name, 32), **SAMPLES[self.name].get("options", {})}
        if "classifier" in options:
            options["classifier"] = str(self.folder / options["classifier"])
        one = recipe(self.base, options, training={**TWO_STEPS, **training})
        if one.training.names_parts:
            start.check_recipe_fits(one)
        return one

    def learned(self, one: Recipe, name: str) -> dict[str, Any]:
        """The weights after two steps, but for the statistics of batches, which nobody learns."""
        made = train(one, self.folder / name, table(SAMPLES[self.name]["rows"](ROWS)), labels_of(self.name))
        return {name: one for name, one in weights(made).items() if "running_" not in name}


def deeper(base: Path) -> Path:
    """The base with two layers, where its samples have one: a student shall have fewer."""
    config = json.loads((base / "config.json").read_text())
    more = {name: 2 for name in ("n_layer", "num_layers", "num_decoder_layers") if config.get(name) == 1}
    (base / "config.json").write_text(json.dumps({**config, **more}))
    return base


@pytest.fixture(scope="module", params=objectives.TABLE)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Lab:
    name = str(request.param)
    folder = tmp_path_factory.mktemp("ways")
    return Lab(name, deeper(SAMPLES[name]["base"](folder)) if "base" in SAMPLES[name] else tiny_model, folder)


@pytest.fixture(scope="module")
def plain(lab: Lab) -> dict[str, Any]:
    return lab.learned(lab.checked(), "plain")


@pytest.mark.parametrize("way", WAYS)
def test_a_way_of_tuning_changes_what_is_learned_or_is_refused(way: str, lab: Lab, plain: dict[str, Any]) -> None:
    try:
        one = lab.checked(**{way: WAYS[way]})
    except (ConfigError, ValidationError) as error:
        assert f"training.{way}: " in str(error) or f"remove train_top_layers and {way}" in str(error), error
        return
    found = lab.learned(one, way)
    if way == "student":
        assert 0 < len(found) < len(plain)
    else:
        assert max(float((found[name] - plain[name]).abs().max()) for name in plain) > 1e-6
