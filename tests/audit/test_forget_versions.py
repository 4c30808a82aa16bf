"""Which registered versions have learned a row that is forgotten, themselves or by descent."""

from collections.abc import Callable
from pathlib import Path

import pytest

from evertune.audit.forgetting import forget as forgetting
from evertune.registry.versions import versions as models
from evertune.runtime.context import RunContext
from tests.helpers.cli import Done
from tests.helpers.data import current, good, run
from tests.helpers.registry import Shop


def test_the_versions_that_saw_the_rows_are_told(shop: Shop) -> None:
    run(shop.recipe, shop.home)
    version = shop.checked()
    found = current(shop.home, "text", "split")[0]
    told = forgetting.forget_rows(RunContext(shop.recipe, shop.home), {"text": [found["text"]]}, "why").versions
    assert told == ({"version": version, "aliases": [], "rows": {found["split"]: 1}, "descends": []},)


def test_a_version_that_descends_from_one_that_saw_them_is_told_too(
    shop: Shop, tmp_path: Path, evertune: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERTUNE_HOME", str(shop.home.root))
    run(shop.recipe, shop.home)
    before = len(current(shop.home, "text"))
    with (tmp_path / "rows.csv").open("a") as file:
        file.writelines(f"{text},refund\n" for text, _ in good(4, 50))
    run(shop.recipe, shop.home)
    row = current(shop.home, "text", "split")[before]
    first = shop.registered()[1]
    second = shop.registered()[1]
    models.set_tags(shop.home, shop.name, first, start=second)  # with fewer rows of its own
    done = evertune("forget", tmp_path / "recipe.yaml", "--text", row["text"], "--reason", "a letter")
    assert "descends from version 2" in done.out
    shown = " ".join(evertune("trace", tmp_path / "recipe.yaml", "--version", first).out.split())
    assert f"forgotten since 1 {row['split']}, which version 2 has seen (an ancestor)" in shown
    assert "version 2, the champion that training started from" in shown
