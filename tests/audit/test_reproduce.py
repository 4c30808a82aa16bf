"""A version trained again from its record is the same bit for bit, or it is said what is not as it was."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from evertune import training
from evertune.audit import reproduce as reproduction
from evertune.audit.forgetting import forget as forgetting
from evertune.compression import variants
from evertune.config import Recipe, load_recipe
from evertune.data import label_names as relabel
from evertune.data.corpus import transactions as corpus
from evertune.data.splits import assign as splits
from evertune.errors import RegistryError
from evertune.records import Candidate, Snapshot, Tokens
from evertune.registry.tracking import runs as tracking
from evertune.registry.tracking import store
from evertune.registry.versions import lineage
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from evertune.runtime.home import Home
from evertune.serving import bundle
from evertune.tokenization import tokenize as tokenization
from evertune.training import trainer as loop
from tasks.finetune import finetune
from tests.helpers.cli import Done, ticket_rows, write_rows
from tests.helpers.crash import Killed
from tests.helpers.data import run as take_in

pytestmark = pytest.mark.slow

SECTIONS: dict[str, Any] = {
    "data": {"sources": [{"path": "rows/*.csv"}], "split": {"validation": 0.1, "test": 0.25}},
    "training": {"epochs": 2, "tokens_per_batch": 256, "precision": "fp32", "learning_rate": 5e-3},
    "evaluation": {"precision": "fp32", "bootstrap": 200},
}


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, model_store: Path) -> Path:
    """A folder with a recipe, and a home that has its version 1."""
    import yaml

    folder = tmp_path_factory.mktemp("reproduce")
    write_rows(folder / "rows" / "a.csv", ticket_rows(80))
    tree = {"name": "tickets", "objective": {"type": "text-classification", "max_length": 32}, **SECTIONS}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**tree, "base_model": str(tiny_model)}), encoding="utf-8")
    shutil.copytree(model_store.with_name("empty") / "mlflow", folder / "home" / "mlflow")
    one = load_recipe(folder / "recipe.yaml")
    home = Home(folder / "home", "tickets")
    made = trained(one, home, take_in(one, home))
    models.register_version(RunContext(one, home), made, ["a text"])
    return folder


def trained(one: Recipe, home: Home, snapshot: Snapshot) -> Candidate:
    """What the steps do up to the bundle."""
    rows = relabel.rename_rows(
        splits.exclude_leaked_rows(corpus.read_rows(home, snapshot.version), one.data.split), one
    )
    tokens = tokenization.tokenize_rows(RunContext(one, home), snapshot, rows)
    folder = training.run_folder(home, training.fingerprint_training(one, tokens, None))
    run = tracking.open_run(RunContext(one, home), tokens, folder)
    made = training.finetune_model(
        RunContext(one, home),
        tokens,
        tokenization.load_tokens(tokens, rows),
        rows,
        run_id=run.run_id,
        folder=folder,
        log=run.log_metrics,
    )
    run.send_metrics()
    return made


@pytest.fixture
def known(registered: Path) -> tuple[Recipe, Home]:
    return load_recipe(registered / "recipe.yaml"), Home(registered / "home", "tickets")


def test_it_is_identical_bit_for_bit_and_leaves_its_verdict_alone(known: tuple[Recipe, Home], registered: Path) -> None:
    one, home = known
    files = {path for path in home.root.rglob("*") if path.suffix != ".lock" and "reproduced" not in path.parts}
    files.add(home.model / "reproduce.holder.json")
    edited = one.model_copy(update={"training": one.training.model_copy(update={"seed": 99})})
    found = reproduction.reproduce_version(RunContext(edited, home), 1)  # by the recipe of then, not by today's
    assert (found.verdict, found.weights, found.missing, found.lost) == ("identical", 0.0, (), {})
    assert found.metrics == found.registered
    assert found.environment == {}
    left = {path for path in home.root.rglob("*") if path.suffix != ".lock"} - files
    assert left == {home.model / "reproduced", home.model / "reproductions.jsonl"}


def test_one_at_a_time(known: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reproduction, "WAIT", 0.1)
    with known[1].lock("reproduce"), pytest.raises(RegistryError, match="has held the reproduce lock of tickets"):
        reproduction.reproduce_version(RunContext(*known), 1)


def test_one_that_was_killed_goes_on(known: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch) -> None:
    def dies(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(bundle, "write_bundle", dies)
        reproduction.reproduce_version(RunContext(*known), 1)
    steps: list[int] = []
    step = loop.TokenTrainer.training_step
    monkeypatch.setattr(loop.TokenTrainer, "training_step", lambda *a, **k: (steps.append(1), step(*a, **k))[1])
    assert reproduction.reproduce_version(RunContext(*known), 1).verdict == "identical"
    assert steps == []  # its last checkpoint was the whole training


def test_of_a_variant_the_original_is_trained_and_the_variant_made_anew(known: tuple[Recipe, Home]) -> None:
    one, home = known
    snapshot = relabel.rename_snapshot(corpus.take_snapshot(home), one)
    place = home.runs / "variant"
    digest = variants.write_variant(models.fetch_bundle(home, "tickets", 1), place / "bundle", "prune", 0.3)
    tokens = Tokens((), "variant", snapshot, {}, 0)
    run = tracking.open_run(RunContext(one, home), tokens, place)
    made = Candidate(str(place / "bundle"), run.run_id, str(place), digest, tokens, 0, 0.0, 0.0, 0.0)
    version = models.register_version(RunContext(one, home), made, ["a text"])
    found = reproduction.reproduce_version(RunContext(one, home), version)
    assert (found.version, found.verdict, found.weights) == (version, "identical", 0.0)
    store.open_client(home).delete_model_version("tickets", str(version))


def test_a_student_has_its_teacher_again_and_where_that_is_gone_nothing_begins(
    known: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch
) -> None:
    distill = {"teacher": "1", "weight": 0.9}
    one, home = known
    one = Recipe.model_validate({**one.model_dump(), "training": {**one.training.model_dump(), "distill": distill}})
    monkeypatch.setenv("EVERTUNE_HOME", str(home.root))
    monkeypatch.setattr("evertune.registry.versions.parity.prepare_check", lambda *_: None)
    snapshot = relabel.rename_snapshot(corpus.take_snapshot(home), one)
    rows = relabel.rename_rows(
        splits.exclude_leaked_rows(corpus.read_rows(home, snapshot.version), one.data.split), one
    )
    made = finetune.__wrapped__(tokenization.tokenize_rows(RunContext(one, home), snapshot, rows), one)
    version = models.register_version(RunContext(one, home), made, ["a text"])
    told = models.describe_version(home, "tickets", version)["model"]
    assert lineage.list_trained_versions(home, "tickets")[-1].parents == (1,)
    assert (told["teacher"], told["teacher_version"]) == (
        bundle.compute_digest(models.fetch_bundle(home, "tickets", 1)),
        "1",
    )
    assert reproduction.reproduce_version(RunContext(one, home), version).verdict == "identical"
    store.open_client(home).set_model_version_tag("tickets", "1", "evertune.bundle", "of other files")
    monkeypatch.setattr(training, "finetune_model", None)
    with pytest.raises(RegistryError, match=r"its teacher is needed to reproduce it: version 1 of tickets"):
        reproduction.reproduce_version(RunContext(one, home), version)
    store.open_client(home).set_model_version_tag("tickets", "1", "evertune.bundle", told["teacher"])
    store.open_client(home).delete_model_version("tickets", str(version))


def test_weights_of_several_files_and_of_none_are_compared(tmp_path: Path) -> None:
    for name, value in (("one", 1.0), ("other", 1.5)):
        (tmp_path / name / "model").mkdir(parents=True)
        for number in (1, 2):
            tensors = {f"part{number}": torch.full((2,), value * number)}
            save_file(tensors, tmp_path / name / "model" / f"model-0000{number}-of-00002.safetensors")
        (tmp_path / f"{name} graph" / "model").mkdir(parents=True)
        (tmp_path / f"{name} graph" / "model" / "model.onnx").write_text(str(value))
    assert reproduction.compare_weights(tmp_path / "one", tmp_path / "other") == 1.0
    assert reproduction.compare_weights(tmp_path / "one", tmp_path / "one") == 0.0
    assert reproduction.compare_weights(tmp_path / "one graph", tmp_path / "other graph") is None
    assert reproduction.compare_weights(tmp_path / "one graph", tmp_path / "one graph") == 0.0


def test_what_differs_is_told(known: tuple[Recipe, Home], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "describe_environment", lambda: {"threads": 1, "libraries": {"torch": "9.0"}})
    monkeypatch.setattr("evertune.models.base.fingerprint_base", lambda _: "another")
    monkeypatch.setattr(reproduction, "compare_weights", lambda *_: 0.5)
    found = reproduction.reproduce_version(RunContext(*known), 1)
    assert found.verdict == "same"  # the metrics are those
    assert found.environment["torch"][1] == "9.0"
    assert found.missing == (f"the base model {known[0].base_model} has changed since the training",)


VERDICTS = [
    (0.0, 0.9, 0.9, "identical"),
    (1e-6, 0.9, 0.905, "same"),
    (1e-6, 0.9, 0.95, "different"),
    (None, 0.9, 0.9, "same"),
    (1e-6, 0.9, None, "different"),
]


@pytest.mark.parametrize(("weights", "ours", "theirs", "verdict"), VERDICTS)
def test_the_verdict(weights: Any, ours: Any, theirs: Any, verdict: str) -> None:
    assert reproduction._judge_difference(weights, {"accuracy": ours}, {"accuracy": theirs}) == verdict


def test_forgotten_rows_are_counted_by_reproduce_and_trace(
    registered: Path, tmp_path: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(registered, tmp_path, dirs_exist_ok=True)  # MLflow's database still names the first folder
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    one = load_recipe(tmp_path / "recipe.yaml")
    home = Home(tmp_path / "home", "tickets")
    text = next(row["text"] for row in corpus.read_rows(home, 1).to_pylist() if row["split"] == "train")
    told = forgetting.forget_rows(RunContext(one, home), {"text": [text]}, "a letter")
    assert [version["rows"] for version in told.versions] == [{"train": 1}]
    done = evertune("reproduce", tmp_path / "recipe.yaml", "--version", "1", "--json")
    assert (done.json["lost"], done.json["forgotten"]) == ({"train": 1}, {"train": 1})
    assert done.status == (4 if done.json["verdict"] == "different" else 0)
    shown = evertune("trace", tmp_path / "recipe.yaml", "--version", "1").out
    assert "rows unchanged since training, except for those that were forgotten" in shown
    assert "threads" in shown


def test_no_such_version_is_a_registry_error(
    registered: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(registered / "home"))
    assert evertune("reproduce", registered / "recipe.yaml", "--version", "7").status == 5
    assert "no champion yet" in evertune("reproduce", registered / "recipe.yaml").err


def test_a_version_that_others_registered_is_told_as_far_as_it_is_known(
    registered: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(registered / "home"))
    mlflow = store.open_client(Home(registered / "home", "tickets"))
    run = mlflow.create_run("0")
    made = [
        mlflow.create_model_version("tickets", "s3://elsewhere/model", run_id=one) for one in (None, run.info.run_id)
    ]
    for version in [one.version for one in made]:
        trace = ("trace", registered / "recipe.yaml", "--version", version)
        assert "registered outside Evertune, no snapshot on record" in " ".join(evertune(*trace).out.split())
        assert evertune(*trace, "--json").json["rows"]["snapshot"] is None
        done = evertune("reproduce", registered / "recipe.yaml", "--version", version)
        assert (done.status, "registered outside Evertune, no snapshot on record; it cannot" in done.err) == (5, True)
        mlflow.delete_model_version("tickets", str(version))
