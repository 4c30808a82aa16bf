"""Telling people: targets become addresses here, through the environment or Prefect's blocks, and nowhere else."""

import contextlib
import functools
import inspect
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

from evertune.config import Recipe, load
from evertune.data.contract.judge import BatchStoppedError
from evertune.errors import ConfigError
from evertune.notify import delivery, notices
from evertune.notify.notices import Notice
from evertune.runtime.home import home_of

said = logging.getLogger("evertune.step")  # as `tasks.step.said`, whose module imports Prefect
P = ParamSpec("P")
R = TypeVar("R")
BLOCK = "a Prefect block"
watched: ContextVar[bool] = ContextVar("watched", default=False)  # somebody further out tells of an error


class Told(NamedTuple):
    """What came of one target.

    Args:
        target: as it stands in the recipe.
        kind: such as `Slack`.
        problem: why nobody is told there; None where all is well.
    """

    target: str
    kind: str
    problem: str | None = None


def tell(recipe: Recipe, notice: Notice) -> None:
    """Send a notice to every target, if the recipe asks for its event and it was not sent yet.

    A target that cannot be reached is warned of, and holds nothing up. Killed between sending and the note of it, the
    next run sends again.
    """
    if not recipe.notify.targets or not set(notice.events) & set(recipe.notify.events):
        return
    home = home_of(recipe)
    if notice.key is not None and delivery.told(home, notice.key):
        said.info("notify: people were told of this before")
        return
    for one in sent(recipe, notice):
        if one.problem is None:
            said.info("notify: told %s (%s)", one.kind, one.target)
        else:
            said.warning("notify: nobody told at %s (%s): %s", one.kind, one.target, one.problem)
    if notice.key is not None:
        delivery.note(home, notice.key)


def sent(recipe: Recipe, notice: Notice) -> list[Told]:
    """Send a notice to each target, one after the other."""
    return [_sent(target, recipe, notice) for target in recipe.notify.targets]


def kinds(recipe: Recipe) -> list[Told]:
    """Where notices would go; what a Prefect block holds is asked for only when one is sent."""
    return [_known(target) for target in recipe.notify.targets]


def _sent(target: str, recipe: Recipe, notice: Notice) -> Told:
    known = _known(target)
    if known.problem is not None:
        return known
    try:
        address = _address(target)
    except ConfigError as error:
        return known._replace(problem=str(error))
    problem = delivery.send(address, notice, recipe.notify.timeout)
    return Told(known.target, delivery.kind(address) or known.kind, problem)


def _known(target: str) -> Told:
    if target.startswith("block:"):
        return Told(target, BLOCK)
    try:
        kind = delivery.kind(_address(target))
    except ConfigError as error:
        return Told(target, "an unknown service", str(error))
    return Told(target, kind or "an unknown service", None if kind else delivery.UNKNOWN)


@contextlib.contextmanager
def failures(recipe: Recipe | str, overrides: Sequence[str], job: str) -> Iterator[None]:
    """People are told once of an error that ends the block; nobody where the recipe itself cannot be read.

    Args:
        recipe: a recipe, or the path of its YAML file.
        job: the flow's name.
    """
    if watched.get():
        yield
        return
    before = watched.set(True)
    try:
        yield
    except Exception as error:
        if isinstance(recipe, str):
            try:
                recipe = load(recipe, overrides, for_data=False)  # the error may be that a source's secret is missing
            except ConfigError:
                raise error from None
        tell(recipe, _notice(recipe, error, job))
        raise
    finally:
        watched.reset(before)


def _notice(recipe: Recipe, error: Exception, job: str) -> Notice:
    if isinstance(error, BatchStoppedError):
        return notices.stopped(recipe, error.summary)
    return notices.failure(recipe, error, job)


def telling(flow: Callable[P, R]) -> Callable[P, R]:
    """A flow's function that tells people when it ends with an error."""

    @functools.wraps(flow)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = inspect.signature(flow).bind(*args, **kwargs).arguments
        with failures(given["recipe"], given.get("overrides") or [], flow.__name__):
            return flow(*args, **kwargs)

    return call


def _address(target: str) -> str:
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
    return _of_block(name if "/" in name else f"secret/{name}")


def _of_block(slug: str) -> str:
    from prefect.blocks.core import Block
    from prefect.blocks.notifications import AppriseNotificationBlock
    from prefect.blocks.system import Secret

    try:
        block = Block.load(slug)
    except Exception as error:  # of the server, the connection or the block; its words may hold the secret
        raise ConfigError(
            f"the Prefect block {slug} cannot be read ({type(error).__name__}); `prefect block ls` lists all"
        ) from None
    if isinstance(block, Secret):
        return str(block.get())
    if isinstance(block, AppriseNotificationBlock):
        return block.url.get_secret_value()
    raise ConfigError(f"the Prefect block {slug} holds no address; put its Apprise URL into a Secret block")
