"""Conditions on rows: what is understood selects the right rows and can call nothing, what is not is refused."""

import ast
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.core.computation.expr import _preparse

from evertune.config.row_condition import ALLOWED, read_condition

ROWS = pd.DataFrame(
    {
        "text": ["a", "b'`@pd\\", None],
        "label": ["x", "y", "x"],
        "n": [1, 2, 3],
        "my col": [1, 1, 2],
        "flag": [True, False, True],
        "when": pd.to_datetime(["2026-01-01", "2026-02-01", "2026-03-01"]),
    }
)
COMPARISON = {"type": "comparison", "column": {"name": "n"}, "operator": ">", "parameter": 1}

RUN = "os.system('touch ran')"
ATTACKS = [
    f"@pd.io.common.{RUN} == 0",
    f"n == @pd.io.common.{RUN}",
    f"pd.io.common.{RUN} == 0",
    f"__import__('os').{RUN.removeprefix('os.')} == 0",
    f"__pd_eval_local_pd.io.common.{RUN} == 0",
    "__pd_eval_local_pd == 1",
    "__𝚙d_eval_local_pd == 1",  # Python reads this as the name above
    "@pd == 1",
    "n.map(print)",
    "n.apply(@pd.read_pickle)",
    "n.isnull(1)",
    "n.isnull.__globals__",
    "text.str.len() > 1",
    "sin(n) > 0",
    "n[0] == 1",
    "[x for x in n] == n",
    "(lambda: 1)() == n",
    "n if flag else label",
    "f'{n}' == label",
    "n := 1",
    "n = 1",
    "n > 1; n > 2",
    "n > 1\nimport os",
    "n == `a` or `b",
    "label == 'a' 'b' @pd",
    rf"label == '\\' or `'` == 1 or @pd.io.common.{RUN} == 0 or `'`",
    "n ** 9 > 1",
    "9 ** 9 ** 9 > n",
    "col('n` == 1 or @pd or `n') > 1",
    "col(label) > 1",
    "1 == 1",
    "'text'",
    "n > 1e999",
    "n in label",
    "n >",
    "(n > 1",
    "n > 1)",
    "~n == 1",
    "",
    "(" * 60 + "n > 1" + ")" * 60,
    "not " * 60 + "flag",
    " or ".join(["n > 1"] * 1000),
]
ATTACK_MAPPINGS = [
    {"type": "pass_through", "pass_through_filter": f"@pd.io.common.{RUN} == 0"},
    {"type": "nullity", "column": {"name": f"n` == 1 or @pd.io.common.{RUN} == 0 or `n"}, "is_null": True},
    {**COMPARISON, "operator": f"== @pd.io.common.{RUN} or n =="},
    {**COMPARISON, "parameter": {"$PARAMETER": "1"}},
    {"type": "and", "conditions": [COMPARISON, {"type": "pass_through", "pass_through_filter": "n > 1"}]},
    {"type": "or", "conditions": []},
    {"type": "strange"},
    ["n > 1"],
    3,
]


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("n > 1", [1, 2]),
        ("n>1 & label=='x' | flag", [0, 2]),
        ("flag", [0, 2]),
        ("~flag", [1]),
        ("not n == 2", [0, 2]),
        ("not (n > 1) and flag", [0]),
        ("~(n > 1) & flag", [0]),
        ("1 < n < 3", [1]),
        ("n > -1.5e0", [0, 1, 2]),
        (f"n > -{'9' * 400}", [0, 1, 2]),
        ("n in [1, 3]", [0, 2]),
        ("n in []", []),
        ("label not in ('x',)", [1]),
        ("label == ['x', 'z']", [0, 2]),
        ("flag == True", [0, 2]),
        ("n != 2", [0, 2]),
        ("text.isnull()", [2]),
        ("text.notna() and n > 1", [1]),
        ("`my col` == 2 and (n > 1 or not flag)", [2]),
        (r'text == "b' + "'" + r'`@pd\\"', [1]),
        ("when > '2026-01-15'", [1, 2]),
        ('col("n") >= 2', [1, 2]),
        ('col("text").notNull()', [0, 1]),
        ('col("when") < date("2026-02-15")', [0, 1]),
        (COMPARISON, [1, 2]),
        ({**COMPARISON, "operator": "IN", "parameter": [1, 2]}, [0, 1]),
        ({**COMPARISON, "operator": "NOT_IN", "parameter": [1, 2]}, [2]),
        ({**COMPARISON, "column": {"name": "when"}, "parameter": pd.Timestamp("2026-02-15").date()}, [2]),
        ({"type": "nullity", "column": {"name": "text"}, "is_null": False}, [0, 1]),
        ({"type": "or", "conditions": [COMPARISON, {**COMPARISON, "operator": "<"}]}, [1, 2]),
    ],
)
def test_a_condition_selects_the_rows_that_it_says(condition: Any, rows: list[int]) -> None:
    assert list(ROWS.query(read_condition(condition).query).index) == rows


@pytest.mark.parametrize("condition", [*ATTACKS, *ATTACK_MAPPINGS], ids=lambda condition: str(condition)[:40])
def test_what_is_not_understood_is_refused(condition: Any) -> None:
    with pytest.raises(ValueError):
        read_condition(condition)


def test_an_error_shows_what_is_wrong_and_what_is_allowed() -> None:
    with pytest.raises(ValueError) as error:
        read_condition("n > 1 and @pd.read_pickle('x')")
    assert str(error.value).startswith("at \"@pd.read_pickle('x')\": is not allowed; ")
    assert ALLOWED in str(error.value)


def test_the_columns_are_told() -> None:
    assert read_condition('n > 1 and (col("my col") == 2 or label.isnull()) and n < 3').columns == (
        "n",
        "my col",
        "label",
    )


PARTS = [
    "n",
    "label",
    "flag",
    "`my col`",
    "text.isnull()",
    "when",
    "col('n')",
    "date('2026-01-01')",
    "==",
    "!=",
    "<",
    ">=",
    "in",
    "not in",
    "and",
    "or",
    "not",
    "&",
    "|",
    "~",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    "1",
    "-2.5",
    "1e3",
    "'a'",
    '"b"',
    "'\\\\'",
    "'`'",
    "`",
    "'",
    '"',
    "\\",
    "@",
    "@pd",
    "pd",
    "__pd_eval_local_pd",
    "print(1)",
    "lambda",
    "True",
    "None",
    "#",
    "\n",
    ";",
    "=",
    ":=",
    "**",
    "isnull",
    "notna()",
    "for",
    "if",
    "else",
    "é",
    "\U0001d699",
]
LEAVES = st.one_of(
    st.sampled_from(["n > 1", "flag", "1 < n <= 3", "`my col` in [1, 2]", "text.notnull()", "col('n') != 2", "~flag"]),
    st.text(max_size=12).map(lambda text: f"label == {text!r}"),
)
TEXTS = st.one_of(
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            inner.map(lambda text: f"not ({text})"),
            st.tuples(inner, st.sampled_from(["and", "or", "&", "|"]), inner).map(lambda parts: f"({' '.join(parts)})"),
        ),
    ),
    st.text(max_size=40),
    st.lists(st.sampled_from(PARTS), max_size=14).map(" ".join),
    st.lists(st.sampled_from(PARTS), max_size=14).map("".join),
    st.text(max_size=20).map(lambda text: f"label == {text!r}"),
    st.text(max_size=20).map(lambda text: f"label == '{text}' or n > 1"),
)


@settings(max_examples=1500, deadline=None)
@given(TEXTS)
def test_whatever_is_accepted_calls_nothing(text: str) -> None:
    try:
        condition = read_condition(text)
    except ValueError:
        return
    assert "@" not in condition.query
    tree = ast.parse(_preparse(condition.query), mode="eval")  # what pandas evaluates
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not [name for name in names if name.startswith("__")]
    assert len(names) <= len(condition.columns)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in calls:
        assert isinstance(call.func, ast.Attribute) and call.func.attr in ("isnull", "notnull")
        assert isinstance(call.func.value, ast.Name) and not call.args and not call.keywords
    assert len(calls) == sum(isinstance(node, ast.Attribute) for node in ast.walk(tree))
    kinds = (
        ast.Expression,
        ast.BoolOp,
        ast.UnaryOp,
        ast.Compare,
        ast.Call,
        ast.Attribute,
        ast.Name,
        ast.Constant,
        ast.List,
        ast.boolop,
        ast.unaryop,
        ast.cmpop,
        ast.expr_context,
    )
    assert all(isinstance(node, kinds) for node in ast.walk(tree))


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_compared_as_it_is(value: str, other: str) -> None:
    rows = pd.DataFrame({"label": [value, other, value + other]})
    query = read_condition({"type": "comparison", "column": {"name": "label"}, "operator": "==", "parameter": value})
    wanted = [index for index, text in enumerate(rows["label"]) if text == value]
    assert list(rows.query(query.query).index) == wanted


@pytest.mark.parametrize("condition", ATTACKS, ids=lambda condition: condition[:40])
def test_nothing_runs_while_an_attack_is_refused(
    condition: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError):
        ROWS.query(read_condition(condition).query)
    assert list(tmp_path.iterdir()) == []
