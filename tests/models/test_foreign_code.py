"""A base model or a bundle is data: no code that came with it is run, whatever is typed or piped."""

import ast
import io
import json
from pathlib import Path
from typing import Any

import pytest

from evertune.errors import ConfigError
from evertune.models import base as base_models
from evertune.models import teachers
from evertune.models.foreign import adopt_bundle
from evertune.serving import bundle
from evertune.tokenization import tokenize
from evertune.training import initial_model
from tests.helpers.model import recipe, split_rows, text_rows, train, write_tiny_model

ROOT = Path(__file__).parents[2]
OWN_CODE = """
import pathlib
pathlib.Path({trace!r}).write_text("x")
from transformers import BertConfig as OwnConfig, BertModel as OwnModel, BertTokenizer as OwnTokenizer
"""


@pytest.fixture
def piped_yes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 50))
    monkeypatch.setattr("builtins.input", lambda *_arguments: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))


def write_strange_model(folder: Path, kind: str, auto_map: dict[str, Any], tokenizer: bool = False) -> Path:
    """A tiny model that names code of its own, which leaves `ran` beside the folder."""
    model = write_tiny_model(folder)
    file = model / ("tokenizer_config.json" if tokenizer else "config.json")
    stated = json.loads(file.read_text())
    stated |= {"auto_map": auto_map, **({} if tokenizer else {"model_type": kind})}
    file.write_text(json.dumps(stated))
    (model / "own.py").write_text(OWN_CODE.format(trace=str(folder / "ran")))
    return model


OWN = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}


@pytest.mark.usefixtures("piped_yes")
def test_a_model_that_needs_its_own_code_is_refused(tmp_path: Path) -> None:
    given = recipe(write_strange_model(tmp_path, "strange", OWN))
    for use in (base_models.check_fit, tokenize.load_tokenizer, initial_model.check_recipe_fits):
        with pytest.raises(ConfigError, match=r"is a strange model, .* Evertune runs no code of a model; set"):
            use(given)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("piped_yes")
@pytest.mark.parametrize("tokenizer", [False, True])
def test_a_kind_that_transformers_knows_is_read_by_its_own_classes(tmp_path: Path, tokenizer: bool) -> None:
    auto_map = {"AutoTokenizer": [None, "own.OwnTokenizer"]} if tokenizer else OWN
    given = recipe(write_strange_model(tmp_path, "bert", auto_map, tokenizer))
    initial_model.check_recipe_fits(given)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("piped_yes")
def test_without_the_check_the_loaders_refuse_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a model on the hub, of which no file is here to look at."""
    given = recipe(write_strange_model(tmp_path, "strange", OWN))
    monkeypatch.setattr(base_models, "check_fit", lambda _recipe: None)
    with pytest.raises(ConfigError, match="custom code"):
        tokenize.load_tokenizer(given)
    assert not (tmp_path / "ran").exists()


def find_loaders(tree: ast.AST) -> list[ast.Call]:
    """Calls of `from_pretrained` and `from_config` of a class that `transformers` chooses, which may run code."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("from_pretrained", "from_config")
        if "Auto" in ast.unparse(call.func.value) or "getattr(transformers" in ast.unparse(call.func.value)
    ]


def test_no_loader_trusts_code_that_came_with_a_model() -> None:
    found = []
    for folder in ("evertune", "tasks", "flows"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for call in find_loaders(ast.parse(file.read_text(encoding="utf-8"))):
                pinned = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                found.append((f"{file.name}:{call.lineno}", pinned.get("trust_remote_code")))
    assert len(found) > 30
    assert [where for where, value in found if value != "False"] == []


def test_a_bundle_that_was_given_is_read_by_evertunes_code(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = split_rows(text_rows(20))
    known = train(recipe(tiny_model, training={"epochs": 1}), tmp_path / "teacher", rows)
    given = Path(known.bundle)
    trace = tmp_path / "ran"
    texts = rows["text"].to_pylist()[:3]
    wanted = bundle.load_predictor(given, "fp32").predict(texts)
    for file in (given / "code").rglob("*.py"):
        file.write_text(f"open({str(trace)!r}, 'w')\n{file.read_text()}")
    monkeypatch.setenv("EVERTUNE_HOME", str(tmp_path / "home"))
    asking = recipe(tiny_model, training={"distill": {"teacher": str(given), "weight": 1.0}})
    adopted = teachers.locate_teacher(asking)
    assert adopted is not None and adopted != given
    found = bundle.load_predictor(adopted, "fp32").predict(texts)
    assert [one["label"] for one in found] == [one["label"] for one in wanted]
    assert bundle.read_card(adopted) == bundle.read_card(given)
    assert teachers.locate_teacher(asking) == adopted
    assert [folder.name for folder in adopted.parent.iterdir()] == [adopted.name]
    assert not trace.exists()


def test_a_bundle_of_the_home_keeps_its_code(tmp_path: Path) -> None:
    folder = tmp_path / "models" / "m" / "runs" / "r" / "bundle"
    assert adopt_bundle(folder, tmp_path) == folder


def test_a_bundle_with_a_strange_card_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for card in ("[]", "{}", '{"objective": "os.system"}', "{"):
        (tmp_path / "given" / "evertune.json").write_text(card)
        with pytest.raises(ConfigError):
            adopt_bundle(tmp_path / "given", tmp_path / "home")
