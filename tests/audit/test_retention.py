"""`evertune clean`: what may go is listed, then gone; what trace, rollback and the next run need stays."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evertune.audit import retention as cleaning
from evertune.audit import trace as tracing
from evertune.config import Recipe
from evertune.data.corpus import delta_tables
from evertune.data.corpus import transactions as corpus
from evertune.errors import RegistryError
from evertune.registry.decisions import ledger, promotion
from evertune.registry.tracking import store
from evertune.registry.versions import versions as models
from evertune.runs import up_to_date as conclusion
from evertune.runtime.context import RunContext
from evertune.runtime.files import write_json
from tests.helpers.cli import Done
from tests.helpers.crash import killed
from tests.helpers.data import current, good, run, write_csv
from tests.helpers.data import make_home as home
from tests.helpers.data import make_recipe as recipe
from tests.helpers.registry import Shop, make_champion

pytestmark = pytest.mark.slow

NOW = ("--set", "retention.days=0", "--set", "retention.runs=1")


@pytest.fixture
def clean(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evertune: Callable[..., Done]
) -> Callable[..., Done]:
    """`clean("--yes")` over the shop's recipe, with nothing kept for its age."""
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    return lambda *arguments: evertune("clean", tmp_path / "recipe.yaml", *NOW, *arguments)


def _whole(shop: Shop, version: int) -> bool:
    try:
        return models.fetch_bundle(shop.home, shop.name, version).is_dir()
    except RegistryError:
        return False


def test_only_the_files_of_versions_that_nobody_needs_go(
    shop: Shop, clean: Callable[..., Done], no_parity: None
) -> None:
    made = {version: candidate for candidate, version in (shop.registered() for _ in range(5))}
    make_champion(shop, 1)
    make_champion(shop, 3)
    store.open_client(shop.home).set_registered_model_alias(shop.name, "eu", "4")
    listed = clean("--json").json
    assert {one["name"] for one in listed["spare"] if one["what"] == "model"} == {"version 2"}
    assert {one["name"] for one in listed["spare"] if one["what"] == "run"} == {"runs/run2"}
    assert listed["kept"] == {"1": "was champion", "3": "champion", "4": "eu", "5": "one of the newest 1"}
    assert "nothing was removed" in clean().out
    assert all(_whole(shop, version) for version in made)
    assert Path(made[2].run_folder).is_dir()
    done = clean("--yes", "--json").json
    assert (done["removed"], done["spare"]) == (True, listed["spare"])
    assert [version for version in made if _whole(shop, version)] == [1, 3, 4, 5]
    assert not Path(made[2].run_folder).exists()
    assert "nothing to remove" in clean("--yes").out
    assert ledger.read_entries(shop.home)[-1]["versions"] == [2]
    with pytest.raises(RegistryError, match=r"version 2 of .*: its files were removed by `evertune clean`; "):
        promotion.promote_version(shop.home, shop.name, 2, "it was the best")
    told = tracing.trace_version(RunContext(shop.recipe, shop.home), 2)
    assert told["recipe"]["name"] == shop.recipe.name
    assert told["environment"]["libraries"]
    assert promotion.roll_back_champion(shop.home, shop.name, "test") == 1


def test_what_another_model_serves_stays(shop: Shop, clean: Callable[..., Done]) -> None:
    mlflow = store.open_client(shop.home)
    name = shop.name
    made = {version: candidate for candidate, version in (shop.registered() for _ in range(6))}
    make_champion(shop, 6)
    prod = f"prod-{name}"
    at = mlflow.get_model_version_download_uri(name, "3")
    mlflow.copy_model_version(f"models:/{name}/1", prod)  # as MLflow's documentation promotes
    mlflow.create_model_version(prod, f"models:/{name}/2")  # by others, without a run
    mlflow.create_model_version(prod, f"{at.removeprefix('file://')}/artifacts")
    mlflow.create_model_version(prod, f"runs:/{made[4].run_id}/report")
    mlflow.copy_model_version(f"models:/{name}/5", prod)
    mlflow.delete_model_version(prod, "5")
    done = clean("--yes", "--json").json
    assert [one["name"] for one in done["spare"] if one["what"] == "model"] == ["version 5"]
    served = {str(number): f"shares its files with {prod} version {number}" for number in range(1, 5)}
    assert done["kept"] == {**served, "6": "champion"}
    assert [version for version in made if _whole(shop, version)] == [1, 2, 3, 4, 6]
    assert all(Path(made[version].run_folder).is_dir() for version in range(1, 5))


def test_the_teacher_and_what_others_registered_under_the_name_stay(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = store.open_client(shop.home)
    loaded = _without_age(shop.recipe)
    made = [shop.registered()[0] for _ in range(4)]
    make_champion(shop, 3)
    mlflow.create_model_version(shop.name, str(shop.home.root))
    distill = {"teacher": "2"}
    told = cleaning.clean_home(RunContext(_taught(loaded, distill), shop.home), remove=True)
    why = {2: "the recipe's teacher", 3: "champion", 4: "one of the newest 1", 5: "registered outside Evertune"}
    assert told.kept == why
    assert [_whole(shop, version) for version in (1, 2, 3, 4)] == [False, True, True, True]
    assert "evertune.files" not in mlflow.get_model_version(shop.name, "5").tags
    distill = {"teacher": made[1].bundle}
    assert not cleaning.clean_home(RunContext(_taught(loaded, distill), shop.home), remove=False).spare[1:]
    assert Path(made[1].run_folder).is_dir()


def test_what_a_crash_left_half_removed_goes_the_next_time(shop: Shop, clean: Callable[..., Done]) -> None:
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository as Artifacts

    loaded = _without_age(shop.recipe)
    made = [shop.registered()[0] for _ in range(3)]
    make_champion(shop, 3)
    with killed(Artifacts, "delete_artifacts", "after"):
        cleaning.clean_home(RunContext(loaded, shop.home), remove=True)
    with killed(Path, "rename", "after"):
        cleaning.clean_home(RunContext(loaded, shop.home), remove=True)
    assert cleaning.clean_home(RunContext(loaded, shop.home), remove=True).spare
    assert not cleaning.clean_home(RunContext(loaded, shop.home), remove=False).spare
    assert not any(Path(one.run_folder).exists() for one in made[:2])
    assert not list((shop.home.model / cleaning.GOING).iterdir())
    assert _whole(shop, 3)


def test_reproductions_that_did_not_end_go(shop: Shop) -> None:
    left = shop.home.model / "reproduced" / "1-abc"
    write_json(left / "models" / shop.recipe.name / "runs" / "again" / "checkpoints" / "state.json", {})
    assert not [
        one
        for one in cleaning.clean_home(RunContext(shop.recipe, shop.home), remove=True).spare
        if one.what == "reproduction"
    ]
    done = cleaning.clean_home(RunContext(_without_age(shop.recipe), shop.home), remove=True)
    assert ("reproduction", "reproduced/1-abc", 1) in [(one.what, one.name, one.files) for one in done.spare]
    assert not left.exists()


@pytest.mark.parametrize("work", ["run", "backtest", "search", "reproduce"])
def test_what_is_at_work_is_not_disturbed(
    shop: Shop, clean: Callable[..., Done], work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cleaning, "WAIT", 0.1)
    with shop.home.lock(work):
        done = clean("--yes")
    assert (done.status, f"has held the {work} lock" in done.err) == (5, True)


def test_old_files_of_the_corpus_go_and_every_version_stays_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delta_tables, "MANY", 3)
    one = _without_age(recipe(tmp_path))
    place = home(tmp_path)
    versions = list[int]()
    for day in range(1, 5):
        write_csv(tmp_path / f"{day}.csv", good(4, 4 * day))
        run(one, place)
        versions.append(corpus.newest_version(place))
    before = [corpus.fingerprint_contents(place, version) for version in versions]
    monkeypatch.setattr(cleaning.tokenize, "fingerprint_tokens", lambda _: "now")
    for name in ("now", "then"):
        write_json(place.tokens / name / "000001-000.arrow", {})
    found = cleaning.clean_home(RunContext(one, place), remove=True).spare
    assert {(each.what, each.name) for each in found} >= {("old files", "corpus"), ("token files", "tokens/then")}
    assert len(list(place.corpus.glob("*.parquet"))) < 4
    assert (place.tokens / "now").is_dir()
    assert [corpus.fingerprint_contents(place, version) for version in versions] == before
    assert not cleaning.clean_home(RunContext(one, place), remove=True).spare
    write_csv(tmp_path / "5.csv", good(4, 20))
    assert run(one, place).accepted == 4
    assert [row["text"] for row in current(place, "text")] == [text for text, _ in good(20, 4)]


def test_what_is_kept_decides_no_model(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    assert conclusion.OUTSIDE.count("retention") == 1
    assert _without_age(one) != one


def _without_age(one: Recipe) -> Any:
    return one.model_copy(update={"retention": one.retention.model_copy(update={"days": 0, "runs": 1})})


def _taught(one: Recipe, distill: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({**one.model_dump(), "training": {**one.training.model_dump(), "distill": distill}})
