"""Parse YAML without the traps of the plain parser: a repeated key, aliases that multiply, values that crash."""

from collections.abc import Hashable, Iterator
from typing import Any, cast

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MERGE = "tag:yaml.org,2002:merge"
LARGEST = 100_000  # values in one text, each alias counted with all that it stands for
BITS = 1024  # of a whole number: no setting needs a number that a float cannot hold


def parse_yaml(text: str) -> object:
    """Return the value that a YAML text holds.

    Args:
        text: one YAML document.
    Raises:
        yaml.YAMLError: not YAML; a key is repeated in a mapping; aliases stand for too many values or for themselves;
            or a value cannot be read, such as the date 2026-13-01. The message has the lines.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _count_values(node, {})
        for mapping in _iterate_mappings(node, set()):
            loader.check_keys(mapping)
        return cast(object, loader.construct_document(node))
    except RecursionError:
        raise yaml.YAMLError("its brackets or indents are nested too deeply") from None
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """A `SafeLoader` whose every failure is a `YAMLError` with a line."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        """Return the value of a node."""
        try:
            value = super().construct_object(node, deep=deep)
        except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
            raise ConstructorError(
                None, None, f"{_shorten(node)} cannot be read ({error}); put a text in quotes", node.start_mark
            ) from None
        if isinstance(value, int) and value.bit_length() > BITS:
            raise ConstructorError(
                None, None, f"{_shorten(node)} is too large a number; put a text in quotes", node.start_mark
            )
        return value

    def check_keys(self, node: MappingNode) -> None:
        """Refuse a mapping in which a key is repeated: the plain parser drops the first one.

        Args:
            node: the mapping, before its `<<` are merged, because a key may replace a merged one.
        Raises:
            ConstructorError: names the key and both lines.
        """
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == MERGE or not isinstance(key_node, ScalarNode):
                continue
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if key in lines:
                where = f"in lines {lines[key]} and {line}" if line != lines[key] else f"twice in line {line}"
                raise ConstructorError(
                    None, None, f"the key {key_node.value!r} is {where}; merge or remove one", key_node.start_mark
                )
            lines[key] = line


def _shorten(node: Node) -> str:
    text = str(node.value)
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


def _list_children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


def _count_values(node: Node, counts: dict[Node, int]) -> int:
    """Return how many values a node stands for.

    Args:
        node: of the composed text; aliases are one node with several parents.
        counts: of the nodes seen so far; 0 while a node's parts are counted.
    Raises:
        ConstructorError: too many, or the node is a part of itself.
    """
    if node in counts:
        if not counts[node]:
            raise ConstructorError(None, None, "an alias stands for itself; write the value out", node.start_mark)
        return counts[node]
    counts[node] = 0
    counts[node] = 1 + sum(_count_values(child, counts) for child in _list_children(node))
    if counts[node] > LARGEST:
        raise ConstructorError(
            None, None, f"stands for more than {LARGEST:,} values, through its aliases; write fewer", node.start_mark
        )
    return counts[node]


def _iterate_mappings(node: Node, seen: set[Node]) -> Iterator[MappingNode]:
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, MappingNode):
        yield node
    for child in _list_children(node):
        yield from _iterate_mappings(child, seen)
