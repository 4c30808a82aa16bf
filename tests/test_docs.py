"""The pages say what the code does; every shipped recipe is valid and opens with the command that runs it."""

from pathlib import Path

import pytest

from docs import check
from evertune.config import load_recipe

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.y*ml"))


def test_pages_match_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(write=False) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see `evertune histry RECIPE`", "there is no command `evertune histry`"),
        ("`evertune score R --inptu x`", "`evertune score` has no option --inptu"),
        ("$ .venv/bin/evertune run r.yaml --sett a=b", "`evertune run` has no option --sett"),
        ("```yaml\ncontract:\n  toleranze: 0.1\n```", "YAML in the text is no part of a recipe"),
        ("[there](nowhere.md)", "the link nowhere.md leads nowhere"),
        ("`make nothing`", "there is no target `make nothing`"),
    ],
)
def test_a_page_that_is_wrong_is_told(text: str, problem: str) -> None:
    [found] = check.problems_of(ROOT / "README.md", text)
    assert found.startswith(problem)


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_a_recipe_is_valid_and_opens_with_its_command(path: Path) -> None:
    load_recipe(ROOT / path)
    assert (ROOT / path).read_text(encoding="utf-8").splitlines()[0] == f"# evertune run {path.as_posix()}"
