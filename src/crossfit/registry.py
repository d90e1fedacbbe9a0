"""The registry of installed methods, extractors, data sets and experiments.

They are found through entry points, which name cards (`crossfit.cards`). A broken plugin is listed
with its traceback and does not affect the others. What a plugin prints during its import goes to
the standard error, and a plugin whose import is slow is reported.
"""

from __future__ import annotations

import configparser
import contextlib
import dataclasses
import glob
import importlib
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from types import FunctionType
from typing import Any, Literal

from crossfit._suggest import did_you_mean
from crossfit.cards import API, GROUPS, Card

__all__ = [
    "ClashError",
    "Entry",
    "NotInstalledError",
    "PluginError",
    "RegistryError",
    "card_of",
    "entries",
    "entry_of",
    "find",
    "get",
    "load",
    "refresh",
]

CORE = "crossfit-retrieval"

#: Seconds after which a plugin that is still being imported is reported.
SLOW = 2.0

_log = logging.getLogger("crossfit")
_KINDS = {
    "crossfit.methods": "method",
    "crossfit.extractors": "extractor",
    "crossfit.datasets": "data set",
    "crossfit.experiments": "experiment",
}


class RegistryError(LookupError):
    """Base class of the errors of the registry."""


class NotInstalledError(RegistryError):
    """No installed distribution provides the name."""


class ClashError(RegistryError):
    """Several distributions provide the name."""


class PluginError(RegistryError):
    """The plugin is installed but broken, or made for another version of the card format."""


@dataclass(frozen=True)
class Entry:
    """One entry point, loaded or not.

    Parameters
    ----------
    group : str
        ``"crossfit.methods"``, ``"crossfit.extractors"``, ``"crossfit.datasets"`` or
        ``"crossfit.experiments"``.
    name : str
        Name of the entry point, normalised (PEP 503).
    distribution, version : str
        Name and version of the distribution that provides it.
    status : {"ok", "broken", "incompatible"}
        ``"ok"`` if the card could be read.
    card : Card or None, default=None
        The card, if it could be read.
    error : str, default=""
        One line or a traceback, if the card could not be read.
    shadowed : bool, default=False
        True if the name without a distribution refers to an entry of crossfit itself. This entry
        must then be named as ``distribution:name``.
    """

    group: str
    name: str
    distribution: str
    version: str
    status: Literal["ok", "broken", "incompatible"]
    card: Card | None = None
    error: str = ""
    shadowed: bool = False

    @property
    def kind(self) -> str:
        """The kind of the entry in words: method, extractor, data set or experiment."""
        return _KINDS[self.group]


@dataclass(frozen=True)
class _Point:
    """An entry point whose card has not been imported."""

    group: str
    name: str
    distribution: str
    version: str
    file: str
    spec: str = ""
    error: str = ""
    shadowed: bool = False


def normalise(name: str) -> str:
    """Return a name as normalised by PEP 503: in lower case, with runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(group: str | None = None) -> tuple[Entry, ...]:
    """Return all installed entries, sorted by group, name and distribution.

    Parameters
    ----------
    group : str, optional
        One of the four groups of entry points; all by default.

    Raises
    ------
    ValueError
        If there is no such group.

    Notes
    -----
    The file system is read once per process; see `refresh`. The environment variable
    ``CROSSFIT_PLUGINS`` (names of distributions, separated by commas) limits which plugins are
    loaded; entries of crossfit itself are always listed.

    Examples
    --------
    >>> from crossfit import registry
    >>> [e.name for e in registry.entries("crossfit.datasets") if e.name == "emoji"]
    ['emoji']
    """
    if group is not None and not (isinstance(group, str) and group in GROUPS):
        raise ValueError(f"group must be among {', '.join(GROUPS)}, got {group!r}")
    return tuple(_entry(point) for point in _points() if group in (None, point.group))


def refresh() -> None:
    """Clear the cached entries, so that newly installed plugins are found."""
    _discover.cache_clear()
    _entry.cache_clear()
    importlib.invalidate_caches()


def find(name: str, group: str = "crossfit.methods") -> Entry:
    """Return the entry with a name.

    A name without a distribution refers to the entry of crossfit itself if there is one. Only cards
    with this name are imported.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name`` if several distributions provide it.
    group : str, default="crossfit.methods"
        The group of entry points.

    Raises
    ------
    NotInstalledError
        If no distribution provides the name; the message lists similar names, or all names if none
        is similar. If `name` has a distribution that is not installed, it names what to install.
    ClashError
        If several plugins provide the name; the message lists them.
    PluginError
        If the card cannot be read.
    TypeError, ValueError
        If `name` is not a string, or if there is no such group.

    Examples
    --------
    >>> from crossfit import registry
    >>> registry.find("cca").distribution
    'crossfit-retrieval'
    """
    if not isinstance(name, str):
        raise TypeError(f"name must be a string such as 'cca', got {type(name).__name__}")
    if not (isinstance(group, str) and group in GROUPS):
        raise ValueError(f"group must be among {', '.join(GROUPS)}, got {group!r}")
    distribution, _, bare = name.rpartition(":")
    wanted = normalise(bare)
    offered = [
        _entry(point)
        for point in _points()
        if (point.group, point.name) == (group, wanted)
        and (point.distribution == normalise(distribution) if distribution else not point.shadowed)
    ]
    kind = _KINDS[group]
    here = {point.distribution for point in _points()}
    if distribution and normalise(distribution) not in here:
        raise NotInstalledError(
            f"the {kind} {wanted!r} is in the distribution {distribution}, which is not installed"
            + (" or not in CROSSFIT_PLUGINS" if "CROSSFIT_PLUGINS" in os.environ else "")
            + f"; install {distribution}, or leave the {kind} out"
        )
    if not offered:
        known = sorted({entry.name for entry in entries(group) if entry.status == "ok"})
        broken = sorted({entry.distribution for entry in entries() if entry.status != "ok"})
        raise NotInstalledError(
            f"no {kind} {name!r} is installed"
            + (did_you_mean(wanted, known) or f"; installed are: {', '.join(known) or 'none'}")
            + (
                f"; these plugins are broken, see `crossfit list`: {', '.join(broken)}"
                if broken
                else ""
            )
        )
    # A broken plugin does not make the name of a working one ambiguous.
    offered = [entry for entry in offered if entry.status == "ok"] or offered
    if len(offered) > 1:
        choices = " or ".join(f"{entry.distribution}:{wanted}" for entry in offered)
        raise ClashError(
            f"the {kind} {wanted!r} is provided by several distributions; use the name {choices}"
        )
    entry = offered[0]
    if entry.status != "ok":
        last = entry.error.strip().splitlines()[-1]
        raise PluginError(
            f"the {kind} {wanted!r} of {entry.distribution} {entry.version} is {entry.status}: "
            f"{last}"
        )
    return entry


def get(name: str, group: str = "crossfit.methods") -> Any:
    """Return the card with a name; see `find` for the errors.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name``.
    group : str, default="crossfit.methods"
        The group of entry points.

    Examples
    --------
    >>> from crossfit import registry
    >>> registry.get("cca").target
    'crossfit.subspace.cca:CCA'
    """
    return find(name, group).card


def load(name: str, group: str = "crossfit.methods") -> Any:
    """Import and return the target of a card, which is a class or a function.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name``.
    group : str, default="crossfit.methods"
        The group of entry points.

    Returns
    -------
    type or callable
        The target.

    Raises
    ------
    NotInstalledError, ClashError, TypeError, ValueError
        As in `find`.
    PluginError
        If the card cannot be read or its target cannot be imported; the cause is chained.

    Examples
    --------
    >>> from crossfit import registry
    >>> registry.load("cca")
    <class 'crossfit.subspace.cca.CCA'>
    """
    entry = find(name, group)
    assert entry.card is not None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return resolve_target(entry.card.target)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the import of a module may even raise SystemExit
        raise PluginError(
            f"the {entry.kind} {entry.name!r} of {entry.distribution} {entry.version} cannot be "
            f"imported from {entry.card.target!r}: {type(error).__name__}: {error}"
        ) from error


def resolve_target(target: str) -> Any:
    """Import and return an object from its path, ``"package.module:attribute"``."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def card_of(cls: Any) -> Card:
    """Return the registered card whose target is a class or the loader of a data set.

    See `entry_of` for the errors.
    """
    card = entry_of(cls).card
    assert card is not None
    return card


def entry_of(cls: Any) -> Entry:
    """Return the entry whose target is a class or the loader of a data set.

    Raises
    ------
    NotInstalledError
        If it is not the target of an installed card.
    TypeError
        If `cls` is neither a class nor a function.
    """
    if not isinstance(cls, (type, FunctionType)):
        raise TypeError(
            f"cls must be a class or a function, got an object of type {type(cls).__name__}"
        )
    package = cls.__module__.partition(".")[0]
    for entry in entries():
        if entry.card is None:
            continue
        module, _, attribute = entry.card.target.partition(":")
        # The class is imported only if the target may be the path of a re-export.
        near = attribute == cls.__qualname__ and module.partition(".")[0] == package
        if near and (module == cls.__module__ or resolve_target(entry.card.target) is cls):
            return entry
    raise NotInstalledError(
        f"no installed card has the target '{cls.__module__}:{cls.__qualname__}'; add an entry "
        f"point in one of the groups {', '.join(GROUPS)}"
    )


def _points() -> tuple[_Point, ...]:
    return _discover(os.environ.get("CROSSFIT_PLUGINS"), tuple(sys.path))


@lru_cache(maxsize=8)
def _discover(allowed: str | None, path: tuple[str, ...]) -> tuple[_Point, ...]:
    chosen = None if allowed is None else {normalise(part.strip()) for part in allowed.split(",")}
    found: list[_Point] = []
    seen: set[str] = set()
    for folder in path:
        # Each distribution is read on its own, so that a malformed file affects only its own.
        for info in sorted(glob.glob(os.path.join(glob.escape(folder or os.curdir), "*.*-info"))):
            stem = os.path.basename(info).rsplit(".", 1)[0]
            name, version, *_ = [*stem.split("-"), ""]
            distribution = normalise(name)
            if distribution in seen:
                continue  # as with imports, the first folder of the path takes precedence
            seen.add(distribution)
            file = os.path.join(info, "entry_points.txt")
            allow = chosen is None or distribution in chosen or distribution == CORE
            if allow and os.path.isfile(file):
                found += _read(file, distribution, version)
    own = {(point.group, point.name) for point in found if point.distribution == CORE}
    found = [
        dataclasses.replace(point, shadowed=True)
        if point.distribution != CORE and (point.group, point.name) in own
        else point
        for point in found
    ]
    return tuple(sorted(found, key=lambda p: (p.group, p.name, p.distribution)))


def _read(file: str, distribution: str, version: str) -> list[_Point]:
    import entrypoints

    try:
        # Sections of other packages may contain bytes that are not UTF-8.
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read()
    except OSError as error:
        return _malformed(distribution, version, file, error)
    if "crossfit." not in text:
        return []
    parser = entrypoints.CaseSensitiveConfigParser(delimiters=("=",))
    try:
        parser.read_string(text)
        sections = {
            group: dict(parser.items(group)) for group in GROUPS if parser.has_section(group)
        }
    except configparser.Error as error:
        return _malformed(distribution, version, file, error)
    return [
        _Point(group, normalise(name), distribution, version, file, spec)
        for group, section in sections.items()
        for name, spec in section.items()
    ]


def _malformed(distribution: str, version: str, file: str, error: Exception) -> list[_Point]:
    message = f"{file} is not a valid entry point file: {' '.join(str(error).split())}"
    return [_Point("crossfit.methods", distribution, distribution, version, file, error=message)]


@cache
def _entry(point: _Point) -> Entry:
    """Import the card of an entry point; any error becomes part of the entry."""
    import entrypoints

    def row(status: Literal["ok", "broken", "incompatible"], error: str, card: Any = None) -> Entry:
        return Entry(
            point.group,
            point.name,
            point.distribution,
            point.version,
            status,
            card,
            error,
            point.shadowed,
        )

    if point.error:
        return row("broken", point.error)
    try:
        with _named_if_slow(point), contextlib.redirect_stdout(sys.stderr):
            card = entrypoints.EntryPoint.from_string(point.spec, point.name).load()
            api = getattr(card, "api", None)
            if api != API:
                if isinstance(api, int):
                    return row(
                        "incompatible",
                        f"its card has api {api}, but this version of crossfit supports api {API}",
                    )
                return row(
                    "broken",
                    f"{point.spec!r} must be a card, got an object of type {type(card).__name__}",
                )
            kind = GROUPS[point.group]
            if not isinstance(card, kind):
                return row(
                    "broken",
                    f"{point.group} requires a {kind.__name__}, got a {type(card).__name__}",
                )
            # A subclass may have fields that raise errors, or that have not been checked.
            kind(**{part.name: getattr(card, part.name) for part in dataclasses.fields(kind)})
    except entrypoints.BadEntryPoint:
        return row("broken", f"the entry point must read 'package.module:CARD', got {point.spec!r}")
    except KeyboardInterrupt:
        raise
    except BaseException:  # the import of a module may even raise SystemExit
        return row("broken", traceback.format_exc())
    if normalise(card.name) != point.name:
        return row(
            "broken", f"the card has the name {card.name!r}, but its entry point {point.name!r}"
        )
    return row("ok", "", card)


@contextlib.contextmanager
def _named_if_slow(point: _Point) -> Iterator[None]:
    """Log a warning if the import of a plugin is slow, since it delays every command."""
    name = f"{point.distribution} {point.version}"
    start = time.perf_counter()
    timer = threading.Timer(
        SLOW,
        _log.warning,
        (
            "the plugin %s is still being imported after %g s; set the environment variable "
            "CROSSFIT_PLUGINS to limit which plugins are loaded",
            name,
            SLOW,
        ),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        took = time.perf_counter() - start
        if took > SLOW:
            _log.warning("the plugin %s took %.1f s to import", name, took)
