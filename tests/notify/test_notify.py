"""People are told: the message, the addresses that no line shows, what happens when nobody answers, and each once."""

import logging
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evertune.config import Recipe, load_recipe
from evertune.data.contract.judge import BatchStoppedError
from evertune.errors import ConfigError, DataError
from evertune.notify import delivery, notices
from evertune.records import Monitoring, Outcome
from evertune.runs import up_to_date as conclusion
from tasks import notify
from tests.helpers.cli import Done
from tests.helpers.contract import check_as_batch as judged
from tests.helpers.contract import make_rows as rows_of
from tests.helpers.crash import killed
from tests.helpers.data import good, keyed_rows
from tests.helpers.notify import PASSWORD, TOKEN, USER, Sink, http_sink, secrets_in, smtp_sink
from tests.helpers.report import OUTCOME

Write = Callable[..., Path]
WAITING = Outcome(**{**OUTCOME, "decision": "held", "waiting": True, "metrics": {"test": {"f1_macro": 0.91}}})
LONGER = {"test": "length", "adjusted": 0.001, "words": "9 tokens in the mean", "found": True}
SIDES = {"reference": 60, "current": 90}
FOUND = Monitoring("small", 4, True, "other words", 0.001, 0.05, SIDES, "new.csv", (LONGER,))


@pytest.fixture
def web() -> Iterator[Sink]:
    with http_sink() as sink:
        yield sink


@pytest.fixture
def recipe(tmp_path: Path, write_recipe: Write, web: Sink, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    monkeypatch.setenv("OPS_WEB", web.address)
    return load_recipe(write_recipe(tmp_path, notify={"targets": ["${OPS_WEB}"], "timeout": 60}))


def waiting(recipe: Recipe) -> notices.Notice:
    return notices.describe_outcome(recipe, WAITING, {"f1_macro": 0.88}, "http://mlflow/run")


@pytest.mark.parametrize(
    "target",
    [
        "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
        "https://hooks.example.org/services/x",
        "${A}/and/${B}",
        "${OPS_MAIL:-mailto://me:pw@example.org}",
        "mailto://${USER}:pw@example.org",
        "ops",
        "block:",
        "block:a/b/c",
    ],
)
def test_an_address_in_a_recipe_is_an_error_that_does_not_show_it(
    write_recipe: Write, tmp_path: Path, target: str
) -> None:
    with pytest.raises(ConfigError, match=r"notify.targets.1: an address .* write `\$\{NAME\}` and export") as caught:
        load_recipe(write_recipe(tmp_path, notify={"targets": ["block:slack-webhook/ops", target]}))
    assert target not in str(caught.value).replace("`block:NAME`", "")


@pytest.mark.parametrize("given", [f"json://{PASSWORD}", {"slack": f"json://{PASSWORD}"}, [{"slack": PASSWORD}]])
def test_a_wrong_shape_does_not_show_it_either(write_recipe: Write, tmp_path: Path, given: Any) -> None:
    with pytest.raises(ConfigError, match=r"notify.targets") as caught:
        load_recipe(write_recipe(tmp_path, notify={"targets": given}))
    assert secrets_in(str(caught.value)) == []
    with pytest.raises(ConfigError, match=r"--set notify.targets.0: '0' is not a position") as caught:
        load_recipe(write_recipe(tmp_path, notify={"targets": []}), [f"notify.targets.0=json://{PASSWORD}"])
    assert secrets_in(str(caught.value)) == []


def test_who_is_told_makes_no_run_and_a_missing_variable_stops_none(write_recipe: Write, tmp_path: Path) -> None:
    plain = load_recipe(write_recipe(tmp_path))
    telling = load_recipe(write_recipe(tmp_path, notify={"targets": ["${NOBODY_SET_IT}"], "events": ["drift"]}))
    assert conclusion.recipe_fingerprint(plain) == conclusion.recipe_fingerprint(telling)


def test_what_waits_is_told_with_its_evidence_and_the_commands(recipe: Recipe, web: Sink) -> None:
    notify.send_notice(recipe, waiting(recipe))
    assert web.titles == ["support: version 4 waits for approval"]
    assert web.logins == [f"{USER}:{PASSWORD}"]
    [body] = web.bodies
    path = recipe.folder / "recipe.yaml"
    for words in (
        "better by 3.1 points",
        "f1_macro: challenger 0.9100, champion 0.8800 on all test rows",
        "superior on fresh: passed (challenger 0.9100; champion 0.8800; p = 0.00011; 312 rows)",
        "minimum: not passed (challenger 0.7700; interval 0.7000 to 0.8000; 1,240 rows)",
        "http://mlflow/run",
        f'  evertune approve {path} --version 4 --reason "..."\n',
        f'  evertune reject {path} --version 4 --reason "..."',
    ):
        assert words in body
    promoted = notices.describe_outcome(recipe, replace(WAITING, decision="promoted", waiting=False), {})
    assert f'evertune rollback {path} --reason "..."' in promoted.body


def test_what_has_drifted_is_told_once(recipe: Recipe, web: Sink) -> None:
    for found in (FOUND, FOUND, replace(FOUND, rows={"reference": 60, "current": 91})):
        notify.send_notice(recipe, notices.describe_drift(recipe, found))
    assert web.titles == ["small: drift since version 4"] * 2
    assert "length: p = 0.001, 9 tokens in the mean" in web.bodies[0]


def test_each_event_is_told_once_and_after_a_crash_rather_twice_than_never(recipe: Recipe, web: Sink) -> None:
    with killed(delivery, "note_sent", "before"):
        notify.send_notice(recipe, waiting(recipe))
    for _ in range(2):
        notify.send_notice(recipe, waiting(recipe))
    assert len(web.bodies) == 2
    later = replace(WAITING, version=5)
    notify.send_notice(recipe, notices.describe_outcome(recipe, later, {}))
    assert len(web.bodies) == 3


def test_only_what_is_asked_for_is_told(recipe: Recipe, web: Sink) -> None:
    deaf = recipe.model_copy(update={"notify": recipe.notify.model_copy(update={"events": ["promoted", "quarantine"]})})
    notify.send_notice(deaf, waiting(recipe))
    with pytest.raises(DataError), notify.notify_failures(deaf, (), "retrain"):
        raise DataError("no rows")
    assert web.titles == []


def test_a_flow_that_fails_is_told_once_with_its_error(recipe: Recipe, web: Sink) -> None:
    @notify.notify_on_failure
    def retrain(recipe: Recipe | str, overrides: list[str] | None = None) -> None:
        raise DataError("rows.csv, line 3: broken")

    with pytest.raises(DataError), notify.notify_failures(recipe, (), "retrain"):
        retrain(recipe)
    assert web.titles == ["small: retrain failed"]
    assert web.bodies[0].startswith("rows.csv, line 3: broken\n")
    assert f"evertune run {recipe.folder}" in web.bodies[0]


def test_a_batch_that_was_stopped_is_told_without_the_texts_of_its_rows(
    recipe: Recipe, web: Sink, tmp_path: Path
) -> None:
    rows = keyed_rows(recipe, rows_of([*good(6), *([("private words", None)] * 6)]))
    with pytest.raises(BatchStoppedError, match="private words"), notify.notify_failures(recipe, (), "retrain"):
        judged(rows, recipe)
    assert web.titles == ["small: the contract stopped a batch, no row was ingested"]
    assert "contract.tolerance allows 5.0%" in web.bodies[0]
    assert "evertune quarantine" in web.bodies[0]
    assert "private" not in web.bodies[0]


def test_a_secret_of_a_source_that_is_not_set_is_told(
    evertune: Callable[..., Done], write_recipe: Write, recipe: Recipe, web: Sink, tmp_path: Path
) -> None:
    from flows.monitor import monitor
    from flows.retrain import retrain

    data = {"sources": [{"sql": "select 1", "url": "postgresql://me:${NO_PASSWORD}@db/x"}]}
    path = write_recipe(tmp_path, data=data, notify={"targets": ["${OPS_WEB}"]})
    done = evertune("run", path)
    assert done.status == 2
    assert "NO_PASSWORD is not set" in done.err
    assert web.titles == ["small: retrain failed"]
    assert "NO_PASSWORD is not set" in web.bodies[0]
    assert evertune("run", tmp_path / "nowhere.yaml").status == 2
    assert len(web.titles) == 1
    for flow in (monitor, retrain):  # as a worker calls them
        with pytest.raises(ConfigError):
            flow.fn(str(path))
    assert web.titles[1:] == ["small: monitor failed", "small: retrain failed"]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where somebody picks up and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"json://{USER}:{PASSWORD}@127.0.0.1:{server.getsockname()[1]}/{TOKEN}"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (None, "JSON (${OPS_WEB}): no answer within 1 s"),
        (
            f"json://{USER}:{PASSWORD}@127.0.0.1:9/{TOKEN}",
            "JSON (${OPS_WEB}): the service was not reached: connection refused",
        ),
        (
            f"mailto://{USER}:{PASSWORD}@example.org:9?smtp=127.0.0.1&to=a@example.org",
            "E-Mail (${OPS_WEB}): the service was not reached",
        ),
        (f"nonsense://{PASSWORD}", "an unknown service (${OPS_WEB}): Apprise cannot read this address"),
        ("", "an unknown service (${OPS_WEB}): the environment variable OPS_WEB is not set"),
        ("403", "JSON (${OPS_WEB}): the service answered with status 403"),
    ],
)
def test_who_cannot_be_reached_is_warned_of_by_kind_and_never_by_address(
    recipe: Recipe,
    web: Sink,
    silent: str,
    address: str | None,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    web.status = 403
    monkeypatch.setenv("OPS_WEB", {None: silent, "403": web.address}.get(address, address or ""))
    caplog.set_level(logging.DEBUG)
    patience = recipe.notify.model_copy(update={"timeout": 1 if address is None else 60})
    notify.send_notice(recipe.model_copy(update={"notify": patience}), waiting(recipe))
    [warning] = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert warning.startswith(f"notify: not sent to {told}")
    assert secrets_in(caplog.text, *capfd.readouterr()) == []


def test_an_error_of_a_service_itself_is_a_warning(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def breaks(*_: Any, **__: Any) -> bool:
        raise LookupError(PASSWORD)

    monkeypatch.setattr("apprise.Apprise.notify", breaks)
    notify.send_notice(recipe, waiting(recipe))
    assert "the service refused the message" in caplog.text
    assert secrets_in(caplog.text) == []


def test_check_says_who_would_be_told_and_sends_a_letter_on_demand(
    evertune: Callable[..., Done], tiny_recipe: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_recipe(notify={"targets": ["${OPS_MAIL}", "${OPS_WEB}"], "events": ["waiting"], "timeout": 60})
    with smtp_sink() as mail:
        monkeypatch.setenv("OPS_MAIL", mail.address)
        quiet = evertune("check", path)
        assert quiet.status == 2
        assert mail.titles == []
        assert "E-Mail" in quiet.out and "the environment variable OPS_WEB is not set" in quiet.err
        monkeypatch.setenv("OPS_WEB", mail.address)
        sent = evertune("check", path, "--notify", "--json")
    assert sent.status == 0, sent.err
    assert sent.json["notify"][0] == {"target": "${OPS_MAIL}", "kind": "E-Mail", "problem": None}
    assert mail.titles == ["small: a test message"] * 2
    assert "Notices of small are sent here for: waiting" in mail.bodies[0]
    assert mail.logins == [f"{USER}:{PASSWORD}"] * 2
    assert secrets_in(quiet.out, quiet.err, sent.out, sent.err) == []


def test_prefect_blocks_hold_addresses_too(recipe: Recipe, web: Sink, prefect_server: str) -> None:
    from prefect.blocks.notifications import SlackWebhook
    from prefect.blocks.system import Secret
    from prefect.settings import PREFECT_API_URL, temporary_settings

    targets = ["block:ops", "block:slack-webhook/ops", "block:nobody"]
    blocks = recipe.model_copy(update={"notify": recipe.notify.model_copy(update={"targets": targets})})
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        Secret(value=web.address).save("ops")
        SlackWebhook(url=web.address).save("ops")
        first, second, third = notify.send_to_targets(blocks, waiting(recipe))
    assert (first.kind, first.problem, second.problem, len(web.titles)) == ("JSON", None, None, 2)
    assert third.problem is not None
    assert third.problem.startswith("the Prefect block secret/nobody cannot be read (ValueError)")


@pytest.mark.parametrize("address", ["python://{}", "file://{}", "plugin://{}", "strange://x", "{}"])
def test_no_address_runs_a_program(tmp_path: Path, address: str) -> None:
    program = tmp_path / "strange.py"
    program.write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\n"
        "from apprise.decorators import notify\n@notify(on='strange')\ndef f(*_a, **_k): pass\n"
    )
    assert delivery.find_service_name(address.format(program)) is None
    assert not (tmp_path / "ran").exists()
