"""The pages say what the code does; every shipped recipe is valid and opens with the command that runs it."""

from pathlib import Path

import pytest

from docs import check, prose
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
        ("$ EVERTUNE_JOBS=2 evertune runn r.yaml", "there is no command `evertune runn`"),
        ("$ evertune run r.yaml \\\n    --sett a=b", "`evertune run` has no option --sett"),
        ("```python\nfrom evertune.config import Recipes\n```", "there is no `Recipes` in evertune.config"),
        ("```python\nimport evertune.nothing\n```", "`import evertune.nothing` fails"),
        ("```python\nif True\n```", "Python in the text does not compile"),
    ],
)
def test_a_page_that_is_wrong_is_told(text: str, problem: str) -> None:
    [found] = check.problems_of(ROOT / "README.md", text)
    assert found.startswith(problem)


def test_blocks_that_are_right_are_let_pass() -> None:
    text = """
```yaml title="deployments/prefect.yaml"
deployments: []
```

1. A step:

    ```yaml
    contract:
      tolerance: 0.1
    ```

    ```python
    from evertune.config import Recipe
    from evertune import registry
    ```
"""
    assert not [*check.problems_of(ROOT / "README.md", text)]


def test_a_generated_page_that_is_not_current_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "ROOT", tmp_path)
    monkeypatch.setattr(check, "GENERATED", {"docs/reference/page.md": lambda: "new\n"})
    [missing] = check.generated_problems(write=False)
    assert missing.startswith("docs/reference/page.md: no longer matches the code")
    assert not [*check.generated_problems(write=True)]
    (tmp_path / "docs/reference/page.md").write_text("old\n")
    assert [*check.generated_problems(write=False)] == [missing]


CODE = "\n\n```console\n" + "$ true\n" * 20 + "```\n"


@pytest.mark.parametrize(
    ("page", "text", "problem"),
    [
        ("docs/how-to/x.md", "word " * 30, "0.0 lines of code for 100 words"),
        ("docs/tutorial/x.md", "Five words in a row. " * 13 + CODE, "a paragraph of 65 words"),
        ("docs/how-to/x.md", "- " + "word " * 36 + CODE, "a sentence of 36 words"),
        ("README.md", "word " * 36, "a sentence of 36 words"),
    ],
)
def test_a_guide_that_reads_badly_is_told(page: str, text: str, problem: str) -> None:
    [found] = prose.problems(Path(page), text)
    assert found.startswith(problem)


def test_a_guide_that_reads_well_is_let_pass() -> None:
    text = "# A title of the page\n\n<!-- output: x -->\n" + "Five words in a row. " * 12 + CODE
    assert not [*prose.problems(Path("docs/how-to/x.md"), text)]
    assert not [*prose.problems(Path("docs/explanation/x.md"), "word " * 100)]
    assert prose.code_share(text) == pytest.approx(100 * 20 / 60)


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_a_recipe_is_valid_and_opens_with_its_command(path: Path) -> None:
    load_recipe(ROOT / path)
    assert (ROOT / path).read_text(encoding="utf-8").splitlines()[0] == f"# evertune run {path.as_posix()}"
