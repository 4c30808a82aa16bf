"""Telling people: targets become addresses here, through the environment or Prefect's blocks, and nowhere else."""

import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

from evertune.config import Recipe, load_recipe
from evertune.data.contract.judge import BatchStoppedError
from evertune.errors import ConfigError
from evertune.notify import delivery, notices
from evertune.notify.notices import Notice
from evertune.runtime.home import home_of

logger = logging.getLogger("evertune.step")  # as `tasks.step.logger`, whose module imports Prefect
P = ParamSpec("P")
R = TypeVar("R")
BLOCK = "a Prefect block"
watched: ContextVar[bool] = ContextVar("watched", default=False)  # somebody further out tells of an error


class TargetStatus(NamedTuple):
    """What came of one target.

    Args:
        target: as it stands in the recipe.
        kind: such as `Slack`.
        problem: why nobody is told there; None where all is well.
    """

    target: str
    kind: str
    problem: str | None = None


def send_notice(recipe: Recipe, notice: Notice) -> None:
    """Send a notice to every target, if the recipe asks for its event and it was not sent yet.

    A target that cannot be reached is warned of, and holds nothing up. Killed between sending and the note of it, the
    next run sends again.
    """
    if not recipe.notify.targets or not set(notice.events) & set(recipe.notify.events):
        return
    home = home_of(recipe)
    if notice.key is not None and delivery.was_sent(home, notice.key):
        logger.info("notify: people were told of this before")
        return
    for status in send_to_targets(recipe, notice):
        if status.problem is None:
            logger.info("notify: told %s (%s)", status.kind, status.target)
        else:
            logger.warning("notify: nobody told at %s (%s): %s", status.kind, status.target, status.problem)
    if notice.key is not None:
        delivery.note_sent(home, notice.key)


def send_to_targets(recipe: Recipe, notice: Notice) -> list[TargetStatus]:
    """Send a notice to each target, one after the other."""
    return [_send_to_target(target, recipe, notice) for target in recipe.notify.targets]


def describe_targets(recipe: Recipe) -> list[TargetStatus]:
    """Where notices would go; what a Prefect block holds is asked for only when one is sent."""
    return [_describe_target(target) for target in recipe.notify.targets]


def _send_to_target(target: str, recipe: Recipe, notice: Notice) -> TargetStatus:
    status = _describe_target(target)
    if status.problem is not None:
        return status
    try:
        address = _resolve_address(target)
    except ConfigError as error:
        return status._replace(problem=str(error))
    problem = delivery.send_notice(address, notice, recipe.notify.timeout)
    return TargetStatus(status.target, delivery.find_service_name(address) or status.kind, problem)


def _describe_target(target: str) -> TargetStatus:
    if target.startswith("block:"):
        return TargetStatus(target, BLOCK)
    try:
        kind = delivery.find_service_name(_resolve_address(target))
    except ConfigError as error:
        return TargetStatus(target, "an unknown service", str(error))
    return TargetStatus(target, kind or "an unknown service", None if kind else delivery.UNKNOWN)


@contextlib.contextmanager
def notify_failures(recipe: Recipe | str, overrides: Sequence[str], job: str) -> Iterator[None]:
    """People are told once of an error that ends the block; nobody where the recipe itself cannot be read.

    Args:
        recipe: a recipe, or the path of its YAML file.
        job: the flow's name.
    """
    if watched.get():
        yield
        return
    token = watched.set(True)
    try:
        yield
    except Exception as error:
        if isinstance(recipe, str):
            try:
                recipe = load_recipe(
                    recipe, overrides, for_data=False
                )  # the error may be that a source's secret is missing
            except ConfigError:
                raise error from None
        send_notice(recipe, _build_notice(recipe, error, job))
        raise
    finally:
        watched.reset(token)


def _build_notice(recipe: Recipe, error: Exception, job: str) -> Notice:
    if isinstance(error, BatchStoppedError):
        return notices.describe_stopped_batch(recipe, error.summary)
    return notices.describe_failure(recipe, error, job)


def notify_on_failure(flow: Callable[P, R]) -> Callable[P, R]:
    """A flow's function that tells people when it ends with an error."""

    @functools.wraps(flow)
    def run_flow(*args: P.args, **kwargs: P.kwargs) -> R:
        arguments = inspect.signature(flow).bind(*args, **kwargs).arguments
        with notify_failures(arguments["recipe"], arguments.get("overrides") or [], flow.__name__):
            return flow(*args, **kwargs)

    return run_flow


def _resolve_address(target: str) -> str:
    """The Apprise URL behind a target.

    Raises:
        ConfigError: the environment variable is not set, or there is no such block.
    """
    if not target.startswith("block:"):
        name = target[2:-1]
        if not os.environ.get(name):
            raise ConfigError(f"the environment variable {name} is not set; export it with an Apprise URL")
        return os.environ[name]
    name = target.removeprefix("block:")
    return _read_block(name if "/" in name else f"secret/{name}")


def _read_block(slug: str) -> str:
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import AppriseNotificationBlock
    from prefect.blocks.system import Secret

    try:
        block = Block.load(slug, _sync=True)  # type: ignore[call-arg]  # in a running event loop too: a notebook has one
    except Exception as error:  # of the server, the connection or the block; its words may hold the secret
        raise ConfigError(
            f"the Prefect block {slug} cannot be read ({type(error).__name__}); `prefect block ls` lists all"
        ) from None
    if isinstance(block, Secret):
        return str(block.get())
    if isinstance(block, AppriseNotificationBlock):
        return block.url.get_secret_value()
    raise ConfigError(f"the Prefect block {slug} holds no address; put its Apprise URL into a Secret block")
