"""Candidates, evaluations, moves and a model store for the tests of registry and promotion."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from evertune.config import Recipe
from evertune.objectives import load_objective, text_classification
from evertune.records import Candidate, Decision, Evaluation, Snapshot, Tokens
from evertune.registry.decisions import ledger, promotion
from evertune.registry.decisions import queries as decisions
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import bundle

LABELS = ("card", "refund")
INPUTS = [f"where is my {thing} number {number}" for number in range(6) for thing in ("card", "refund", "parcel")]
PROMOTED = Decision("promoted", "better by 3 points", ({"test": "superior", "p": 0.001, "passed": True},))
HELD = Decision("held", "too few rows", ({"test": "superior", "p": None, "passed": None},))
REJECTED = Decision("rejected", "worse by 9 points", ({"test": "superior", "p": 0.99, "passed": False},))
Edit = Callable[[Path], None]


class Shop:
    """One model's home, recipe and candidates, in a model store that the tests share.

    Args:
        recipe: its base model is a tiny one.
    """

    def __init__(self, root: Path, recipe: Recipe, base: Path) -> None:
        self.recipe = recipe
        self.name = recipe.registered_name
        self.home = Home(root, recipe.name)
        self._base = base
        self._count = itertools.count(1)

    def candidate(self, edit: Edit = lambda _: None) -> Candidate:
        """A model of its own weights, evaluated; then `edit` may change its bundle."""
        number = next(self._count)
        folder = self.home.runs / f"run{number}"
        _write_bundle(folder / "bundle", self._base, number)
        predictions = bundle.load_predictor(folder / "bundle").predict(INPUTS)
        sample = {"role": "text", "inputs": INPUTS, "predictions": predictions}
        (folder / "parity.json").write_text(json.dumps(sample))
        edit(folder / "bundle")
        run = tracking.open_run(RunContext(self.recipe, self.home), tokens_of(number), folder)
        digest = bundle.compute_digest(folder / "bundle")
        return Candidate(str(folder / "bundle"), run.run_id, str(folder), digest, tokens_of(number), 1, 1.0, 1.0, 0.5)

    def registered(self, edit: Edit = lambda _: None) -> tuple[Candidate, int]:
        """A candidate and its registered version."""
        made = self.candidate(edit)
        return made, models.register_version(RunContext(self.recipe, self.home), made, INPUTS[:3])

    def checked(self) -> int:
        """A registered version whose parity check is on record."""
        made, version = self.registered()
        models.set_tags(self.home, self.name, version, parity=made.digest)
        return version

    def asking(self) -> "Shop":
        """The same, with a person to be asked."""
        registry = self.recipe.registry.model_copy(update={"promote": "ask"})
        self.recipe = self.recipe.model_copy(update={"registry": registry})
        return self

    def champion(self) -> int | None:
        return models.find_champion(self.home, self.name)

    def tag(self, version: int, key: str) -> str | None:
        found = {int(one.version): one.tags for one in models.list_versions(self.home, self.name)}
        value = found[version].get(f"evertune.{key}")
        return None if value is None else str(value)


def evaluation(champion: int | None = None, **changes: Any) -> Evaluation:
    """What the evaluation step hands on."""
    plain = Evaluation({"test": {"f1_macro": 0.9}}, champion, {}, "evidence.npz", "details.json", 0, 1.0)
    return replace(plain, **changes)


def events(shop: Shop, *names: str) -> list[dict[str, Any]]:
    """The ledger's entries of these names, or all."""
    return [one for one in ledger.read_entries(shop.home) if not names or one["event"] in names]


def moves(shop: Shop) -> list[tuple[str, int | None, int | None]]:
    """The champion's moves in the ledger: event, from, to."""
    return [(one["event"], one["from"], one["to"]) for one in events(shop) if "to" in one]


def settle(shop: Shop, made: Candidate, version: int, decision: Decision = PROMOTED) -> Decision:
    """The decision about a candidate, carried out against the champion that its run met."""
    met = decisions.find_opponent(shop.home, shop.name, made.run_id)
    return promotion.apply_decision(RunContext(shop.recipe, shop.home), made, evaluation(met), decision, version)


def waiting(shop: Shop) -> tuple[Candidate, int]:
    """A candidate and its registered version that waits for a person; `no_parity` saves its check."""
    shop.asking()
    made, version = shop.registered()
    settle(shop, made, version)
    return made, version


def make_champion(shop: Shop, version: int) -> None:
    models.move_champion(shop.home, shop.name, version, expected=shop.champion(), reason="test")


def moved_by_others(shop: Shop, version: int | None) -> None:
    """The champion's alias is set in MLflow, or taken away, past the ledger."""
    if version is None:
        store.open_client(shop.home).delete_registered_model_alias(shop.name, "champion")
    else:
        store.open_client(shop.home).set_registered_model_alias(shop.name, "champion", str(version))


def _write_bundle(folder: Path, base: Path, seed: int) -> None:
    import torch
    from transformers import AutoTokenizer

    folder.parent.mkdir(parents=True)
    torch.manual_seed(seed)
    model = text_classification.build_model(base, LABELS, text_classification.Options(max_length=32))
    torch.nn.init.normal_(model.classifier.weight)
    card = {
        "objective": "text-classification",
        "options": {"type": "text-classification", "max_length": 32},
        "precision": "fp32",
        "tokens_per_batch": 512,
        "snapshot": {"version": seed, "fingerprint": f"s{seed}", "batch": seed},
    }
    bundle.write_bundle(folder, model, AutoTokenizer.from_pretrained(base), load_objective("text-classification"), card)


def tokens_of(number: int) -> Tokens:
    rows = {"train": 20, "validation": 4, "test": 18, "excluded": 0}
    return Tokens((), f"t{number}", Snapshot(number, f"s{number}", rows, LABELS, number), {}, 0)
