"""Read experiment files: plain YAML with line numbers, and changes to its values.

Files are read by a subclass of `yaml.SafeLoader`, so nothing in them is executed.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Node", "SpecError", "change", "plain", "read_yaml", "what"]


class SpecError(ValueError):
    """An error in an experiment; the message names the file, the line and the key."""


class _Map(dict[str, Any]):
    """A mapping with the line of each of its keys."""

    lines: dict[str, int]
    line: int = 0


class _Seq(list[Any]):
    """A sequence with the line of each of its entries."""

    lines: list[int]
    line: int = 0


class _Loader(yaml.SafeLoader):
    """SafeLoader with lines, without duplicate keys, and with the scalars of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_CORE = {
    "tag:yaml.org,2002:null": (r"~|null|Null|NULL|", "~nN\0"),
    "tag:yaml.org,2002:bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "tag:yaml.org,2002:int": (r"[-+]?[0-9]+", "-+0123456789"),
    # Includes 1e-3, which YAML 1.1 reads as a string.
    "tag:yaml.org,2002:float": (
        r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    "tag:yaml.org,2002:merge": (r"<<", "<"),
}
for _tag, (_pattern, _first) in _CORE.items():
    _Loader.add_implicit_resolver(
        _tag,
        re.compile(rf"^(?:{_pattern})$"),
        ["" if letter == "\0" else letter for letter in _first],
    )


def _of_kind(node: yaml.Node, kind: type[yaml.Node]) -> None:
    """Raise an error if a tag does not match the kind of its value, as in ``!!map x``."""
    if not isinstance(node, kind):
        raise yaml.constructor.ConstructorError(
            None, None, f"expected a {kind.id} node, but found {node.id}", node.start_mark
        )


def _construct_map(loader: _Loader, node: yaml.MappingNode) -> Iterator[_Map]:
    _of_kind(node, yaml.MappingNode)
    made = _Map()
    made.line = node.start_mark.line + 1
    made.lines = {}
    yield made
    own: set[str] = set()
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            continue
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"keys must be strings, got {key!r}", key_node.start_mark
            )
        if key in own:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} occurs twice", key_node.start_mark
            )
        own.add(key)
    loader.flatten_mapping(node)
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
        made[key] = loader.construct_object(value_node, deep=True)  # type: ignore[no-untyped-call]
        made.lines[key] = key_node.start_mark.line + 1


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    # Leading zeros do not make it octal.
    text = loader.construct_scalar(node)
    try:
        return int(text)
    except ValueError:
        raise yaml.constructor.ConstructorError(
            None, None, f"a number of {len(text)} digits is too long", node.start_mark
        ) from None


def _construct_seq(loader: _Loader, node: yaml.SequenceNode) -> Iterator[_Seq]:
    _of_kind(node, yaml.SequenceNode)
    made = _Seq()
    made.line = node.start_mark.line + 1
    made.lines = [part.start_mark.line + 1 for part in node.value]
    yield made
    made.extend(loader.construct_object(part, deep=True) for part in node.value)  # type: ignore[no-untyped-call]


# Dates, bytes and sets are not supported in experiments, even with explicit tags.
_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.rpartition(":")[2] in ("null", "bool", "float", "str")
}
_Loader.add_constructor("tag:yaml.org,2002:map", _construct_map)
_Loader.add_constructor("tag:yaml.org,2002:seq", _construct_seq)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


#: Limits far beyond any experiment written by hand.
_LARGEST, _NODES, _DEPTH = 2**22, 100_000, 60


def read_yaml(path: Path) -> _Map:
    """Read a YAML file that holds a mapping.

    Raises
    ------
    SpecError
        If it is not a regular file, is larger than 4 MiB, is not valid YAML, refers to itself,
        holds more than 100,000 values (with aliases expanded) or more than 60 levels of nesting,
        repeats a key, or does not hold a mapping.
    """
    if path.exists() and not path.is_file():
        raise SpecError(f"{path}: is not a regular file")
    if path.stat().st_size > _LARGEST:
        raise SpecError(f"{path}: is larger than {_LARGEST:,} bytes")
    try:
        tree = _loaded(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError(
            f"{path}: is not a text in UTF-8: byte {error.object[error.start]:#04x}"
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise SpecError(f"{path}{line}: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(tree, _Map):
        raise SpecError(f"{path}: expected an experiment (a mapping with the key 'title')")
    return tree


def _loaded(text: str) -> Any:
    """Return the content of a YAML text, if it is small enough with its aliases expanded.

    Raises
    ------
    yaml.YAMLError, ValueError
        If the text is not valid, or is too large.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()  # type: ignore[no-untyped-call]
        if node is None:
            return None
        if _measured(node, {})[0] > _NODES:
            raise yaml.YAMLError(f"holds more than {_NODES:,} values, with its aliases expanded")
        return loader.construct_document(node)  # type: ignore[no-untyped-call]
    except (IndexError, KeyError):  # raised by PyYAML itself, for instance for !!bool abc
        raise yaml.YAMLError("holds a tag that does not fit its value") from None
    except RecursionError:
        raise yaml.YAMLError(_TOO_DEEP) from None
    finally:
        loader.dispose()  # type: ignore[no-untyped-call]


_TOO_DEEP = f"holds values nested more than {_DEPTH} levels deep"


def _measured(node: yaml.Node, known: dict[yaml.Node, tuple[int, int] | None]) -> tuple[int, int]:
    """Return the number of values in a node, with its aliases expanded, and their depth."""
    if node in known:
        found = known[node]
        if found is None:
            raise yaml.YAMLError("an alias refers to a value that contains it")
        return found
    known[node] = None
    inner: list[Any] = node.value if isinstance(node, yaml.CollectionNode) else []
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
    sizes = [_measured(part, known) for part in inner]
    size, depth = 1 + sum(n for n, _ in sizes), 1 + max((deep for _, deep in sizes), default=0)
    if depth > _DEPTH:
        raise yaml.YAMLError(_TOO_DEEP)
    known[node] = size, depth
    return size, depth


def change(tree: dict[str, Any], setting: str, option: str = "--set") -> None:
    """Change one value of an experiment before it is validated.

    Parameters
    ----------
    tree : dict
        As read from a file.
    setting : str
        For instance ``"tuning.trials=5"``, ``"seeds=[0, 1]"`` or ``"methods.CCA.params.reg=0.1"``.
        Keys are separated by dots, an entry of a list is given by its number, label or name, and
        the value is YAML. If the file refers to an anchor (``params: *shared``), only this
        occurrence changes.
    option : str, default="--set"
        Name of the option that gave the setting, for error messages.

    Raises
    ------
    SpecError
        If the setting is malformed, or the experiment has no such place.
    """
    keys, equals, text = setting.partition("=")
    if not equals or not keys.strip():
        raise SpecError(f"{option} expects key=value, got {setting!r}")
    try:
        value = plain(_loaded(text))  # drops line numbers, which are not those of the file
    except (yaml.YAMLError, ValueError) as error:
        why = "" if isinstance(error, yaml.MarkedYAMLError) else f": it {error}"
        short = text if len(text) <= 80 else f"{text[:79]}…"
        raise SpecError(f"{option} {setting[:80]}: {short!r} is not a YAML value{why}") from None
    *way, last = keys.strip().split(".")
    if keys.strip().startswith("x-"):
        raise SpecError(
            f"{option} {setting}: anchors are expanded already; change the value where it is used"
        )
    at: Any = tree
    for i, key in enumerate(way):
        where = ".".join(way[:i]) or "the experiment"
        entry: Any = _entry(at, key, where) if isinstance(at, list) else key
        if not isinstance(at, (dict, list)):
            raise SpecError(f"{option} {setting}: {where} has no keys")
        inner = at.get(key) if isinstance(at, dict) else at[entry]
        # A copy, because a YAML alias makes one object appear in several places.
        at[entry] = copy.copy(inner) if inner is not None else _new_map()
        at = at[entry]
    if isinstance(at, list):
        at[_entry(at, last, ".".join(way))] = value
    elif isinstance(at, dict):
        at[last] = value
    else:
        raise SpecError(f"{option} {setting}: {'.'.join(way)} has no keys")


def _new_map() -> _Map:
    made = _Map()
    made.lines = {}
    return made


def _entry(entries: list[Any], key: str, where: str) -> int:
    names = [
        (part.get("label") or part.get("method") or part.get("name"))
        if isinstance(part, Mapping)
        else part
        for part in entries
    ]
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(entries):
        return int(key)
    raise SpecError(
        f"--set: {where} has no entry {key!r}; use one of {', '.join(map(str, names)) or 'none'}, "
        "or a number from 0"
    )


# ---- a value with its place ----------------------------------------------------------------------


class Node:
    """A value of the tree with its path, file and line."""

    def __init__(self, value: Any, path: str, source: str, line: int = 0) -> None:
        self.value, self.path, self.source, self.line = value, path, source, line

    def error(self, message: str) -> SpecError:
        """Return an error whose message begins with the place of this value."""
        place = ""
        if self.source:
            place = f"{self.source}:{self.line}: " if self.line else f"{self.source}: "
        return SpecError(f"{place}{self.path + ': ' if self.path else ''}{message}")

    @property
    def place(self) -> str:
        """File and line, for errors that are found only later."""
        return f"{self.source}:{self.line}: " if self.source and self.line else ""

    def child(self, key: Any, default: Any = None) -> Node:
        """Return the value of a key, or an entry of a list."""
        lines = getattr(self.value, "lines", None)
        if isinstance(key, int):
            value = self.value[key]
            path = f"{self.path}[{key}]"
            line = lines[key] if lines and key < len(lines) else self.line
        else:
            value = self.value.get(key, default)
            path = f"{self.path}.{key}" if self.path else key
            line = (lines or {}).get(key, self.line)
        return Node(value, path, self.source, line)

    def known(self, keys: Iterable[str]) -> None:
        """Check that all keys are among these; the message suggests the closest one."""
        known = list(keys)
        for key in self.mapping():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, 1, 0.6)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                where = Node(None, self.path, self.source, self.child(key).line)
                raise where.error(f"unknown key {key!r}: {hint}")

    def mapping(self) -> Mapping[str, Any]:
        """Return the value, which must be a mapping."""
        if not isinstance(self.value, Mapping):
            raise self.error(f"must be a mapping, got {what(self.value)}")
        return self.value

    def sequence(self) -> list[Node]:
        """Return the entries of the value, which must be a list."""
        if isinstance(self.value, str) or not isinstance(self.value, Sequence):
            raise self.error(f"must be a list, got {what(self.value)}")
        return [self.child(i) for i in range(len(self.value))]

    def text(self, *, empty: bool = False) -> str:
        """Return the value, which must be a string."""
        if not isinstance(self.value, str) or not (empty or self.value.strip()):
            raise self.error(f"must be a text, got {what(self.value)}")
        return self.value

    def boolean(self) -> bool:
        """Return the value, which must be true or false."""
        if not isinstance(self.value, bool):
            raise self.error(f"must be true or false, got {what(self.value)}")
        return self.value

    def integer(self, least: int) -> int:
        """Return the value, which must be a whole number of at least `least`."""
        if not isinstance(self.value, int) or isinstance(self.value, bool) or self.value < least:
            raise self.error(f"must be a whole number of at least {least}, got {what(self.value)}")
        return self.value

    def number(self) -> float:
        """Return the value, which must be a number."""
        if not isinstance(self.value, (int, float)) or isinstance(self.value, bool):
            raise self.error(f"must be a number, got {what(self.value)}")
        return self.value

    def one_of(self, choices: Sequence[str]) -> str:
        """Return the value, which must be one of the choices."""
        if self.value not in choices:
            raise self.error(f"must be one of {', '.join(choices)}, got {what(self.value)}")
        return str(self.value)

    def optional(self, read: Callable[[Node], Any]) -> Any:
        """Return None if there is no value, otherwise the result of `read`."""
        return None if self.value is None else read(self)


def what(value: Any) -> str:
    """Return a description of a value for messages."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else repr(value)


def plain(value: Any) -> Any:
    """Return a value of the tree as ordinary dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        parts = [plain(part) for part in value]
        return tuple(parts) if isinstance(value, tuple) else parts
    return value
