"""The registry: which methods, extractors, data sets and experiments are installed.

Everything is found through entry points that name cards (`crossfit.cards`). A plugin that is
broken is a row with its traceback, never an exception for the others; one that prints while it is
imported prints on the standard error, and one that is slow is named.
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

#: Seconds after which a plugin that is still being imported is named.
SLOW = 2.0

_log = logging.getLogger("crossfit")
_KINDS = {
    "crossfit.methods": "method",
    "crossfit.extractors": "extractor",
    "crossfit.datasets": "data set",
    "crossfit.experiments": "experiment",
}


class RegistryError(LookupError):
    """Base of the errors of the registry."""


class NotInstalledError(RegistryError):
    """No installed distribution offers that name."""


class ClashError(RegistryError):
    """Several distributions offer that name."""


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
        Whether the card could be read.
    card : Card or None
        The card, if it could.
    error : str
        One line or a traceback, if it could not.
    shadowed : bool
        Whether crossfit itself brings something of that name, which the bare name then means;
        this one answers to ``distribution:name``.
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
        """The kind of entry in words: method, extractor, data set or experiment."""
        return _KINDS[self.group]


@dataclass(frozen=True)
class _Point:
    """An entry point as it is written, before its card is imported."""

    group: str
    name: str
    distribution: str
    version: str
    file: str
    spec: str = ""
    error: str = ""
    shadowed: bool = False


def normalise(name: str) -> str:
    """Return a name in the form of PEP 503: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(group: str | None = None) -> tuple[Entry, ...]:
    """Return everything that is installed, sorted by group, name and distribution.

    Parameters
    ----------
    group : str, optional
        One of the four groups; all by default.

    Notes
    -----
    Reads the file system once per process; see `refresh`. The environment variable
    ``CROSSFIT_PLUGINS`` (names separated by commas) limits which distributions are loaded; what
    crossfit itself brings is always there.
    """
    if group is not None and not (isinstance(group, str) and group in GROUPS):
        raise ValueError(f"unknown group {group!r}: there are {', '.join(GROUPS)}")
    return tuple(_entry(point) for point in _points() if group in (None, point.group))


def refresh() -> None:
    """Clear what was found, so that newly installed plugins are seen."""
    _discover.cache_clear()
    _entry.cache_clear()
    importlib.invalidate_caches()


def find(name: str, group: str = "crossfit.methods") -> Entry:
    """Return the entry of a name, or of ``distribution:name`` where several offer it.

    What crossfit itself brings wins a bare name. Only the cards of that name are imported.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name``.
    group : str, default="crossfit.methods"
        The entry-point group.

    Raises
    ------
    NotInstalledError
        If no distribution offers it; the message lists close names, or all if there are
        none.
    ClashError
        If several plugins do; the message names them.
    PluginError
        If its card cannot be read.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name is a string such as 'cca', got {type(name).__name__}")
    if not (isinstance(group, str) and group in GROUPS):
        raise ValueError(f"unknown group {group!r}: there are {', '.join(GROUPS)}")
    distribution, _, bare = name.rpartition(":")
    wanted = normalise(bare)
    offered = [
        _entry(point)
        for point in _points()
        if (point.group, point.name) == (group, wanted)
        and (point.distribution == normalise(distribution) if distribution else not point.shadowed)
    ]
    kind = _KINDS[group]
    if not offered:
        known = sorted({entry.name for entry in entries(group) if entry.status == "ok"})
        broken = sorted({entry.distribution for entry in entries() if entry.status != "ok"})
        raise NotInstalledError(
            f"no {kind} {name!r} is installed"
            + (did_you_mean(wanted, known) or f"; there are: {', '.join(known) or 'none'}")
            + (f"; not usable: {', '.join(broken)}, see `crossfit list`" if broken else "")
        )
    # A broken plugin does not take the name from one that works.
    offered = [entry for entry in offered if entry.status == "ok"] or offered
    if len(offered) > 1:
        choices = " or ".join(f"{entry.distribution}:{wanted}" for entry in offered)
        raise ClashError(f"several distributions offer the {kind} {wanted!r}: ask for {choices}")
    entry = offered[0]
    if entry.status != "ok":
        last = entry.error.strip().splitlines()[-1]
        raise PluginError(
            f"the {kind} {wanted!r} of {entry.distribution} {entry.version} is {entry.status}: "
            f"{last}"
        )
    return entry


def get(name: str, group: str = "crossfit.methods") -> Any:
    """Return the card of a name; see `find` for the errors.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name``.
    group : str, default="crossfit.methods"
        The entry-point group.
    """
    return find(name, group).card


def load(name: str, group: str = "crossfit.methods") -> Any:
    """Import and return what a card's target names: a class or a function.

    Parameters
    ----------
    name : str
        A registered name, or ``distribution:name``.
    group : str, default="crossfit.methods"
        The entry-point group.

    Returns
    -------
    type or callable
        What the target names.

    Raises
    ------
    PluginError
        If the target cannot be imported; the cause is chained.
    """
    entry = find(name, group)
    assert entry.card is not None
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return resolve_target(entry.card.target)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may also leave the program
        raise PluginError(
            f"the {entry.kind} {entry.name!r} of {entry.distribution} {entry.version} cannot be "
            f"imported from {entry.card.target!r}: {type(error).__name__}: {error}"
        ) from error


def resolve_target(target: str) -> Any:
    """Import ``"package.module:attribute"``."""
    module, _, attribute = target.partition(":")
    found: Any = importlib.import_module(module)
    for part in attribute.split("."):
        found = getattr(found, part)
    return found


def card_of(cls: Any) -> Card:
    """Return the registered card whose target is a class, or the function that loads a data set.

    See `entry_of` for the errors.
    """
    card = entry_of(cls).card
    assert card is not None
    return card


def entry_of(cls: Any) -> Entry:
    """Return the entry whose target is a class, or the function that loads a data set.

    Raises
    ------
    NotInstalledError
        If no installed card names it.
    TypeError
        If it is neither.
    """
    if not isinstance(cls, (type, FunctionType)):
        raise TypeError(
            f"cls: expected a class or a function, got an object of type {type(cls).__name__}"
        )
    package = cls.__module__.partition(".")[0]
    for entry in entries():
        if entry.card is None:
            continue
        module, _, attribute = entry.card.target.partition(":")
        # A target may name the class where it is re-exported: only then look at the class itself.
        near = attribute == cls.__qualname__ and module.partition(".")[0] == package
        if near and (module == cls.__module__ or resolve_target(entry.card.target) is cls):
            return entry
    raise NotInstalledError(
        f"no installed card has the target '{cls.__module__}:{cls.__qualname__}': add an entry "
        f"point in one of {', '.join(GROUPS)}"
    )


def _points() -> tuple[_Point, ...]:
    return _discover(os.environ.get("CROSSFIT_PLUGINS"), tuple(sys.path))


@lru_cache(maxsize=8)
def _discover(allowed: str | None, path: tuple[str, ...]) -> tuple[_Point, ...]:
    chosen = None if allowed is None else {normalise(part.strip()) for part in allowed.split(",")}
    found: list[_Point] = []
    seen: set[str] = set()
    for folder in path:
        # Distribution by distribution: one malformed file must not end the whole listing.
        for info in sorted(glob.glob(os.path.join(glob.escape(folder or os.curdir), "*.*-info"))):
            stem = os.path.basename(info).rsplit(".", 1)[0]
            name, version, *_ = [*stem.split("-"), ""]
            distribution = normalise(name)
            if distribution in seen:
                continue  # shadowed by an earlier folder of the path, as for imports
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
        # Bytes that are not UTF-8 may stand in a part that is not ours.
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
    """Import the card of an entry point; whatever that does is a row and nothing more."""
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
                    told = f"its card has api {api}, this crossfit reads api {API}"
                    return row("incompatible", told)
                return row(
                    "broken", f"{point.spec!r} is not a card but of type {type(card).__name__}"
                )
            wanted = GROUPS[point.group]
            if not isinstance(card, wanted):
                return row(
                    "broken",
                    f"{point.group} expects a {wanted.__name__}, got a {type(card).__name__}",
                )
            # A class of the plugin's own may have fields that raise, or that nothing has checked.
            wanted(**{part.name: getattr(card, part.name) for part in dataclasses.fields(wanted)})
    except entrypoints.BadEntryPoint:
        return row(
            "broken", f"{point.spec!r} is not an entry point: expected 'package.module:CARD'"
        )
    except KeyboardInterrupt:
        raise
    except BaseException:  # a module may also leave the program
        return row("broken", traceback.format_exc())
    if normalise(card.name) != point.name:
        return row("broken", f"the card is named {card.name!r}, its entry point {point.name!r}")
    return row("ok", "", card)


@contextlib.contextmanager
def _named_if_slow(point: _Point) -> Iterator[None]:
    """Name a plugin whose import takes long: every command would wait for it without a word."""
    name = f"{point.distribution} {point.version}"
    start = time.perf_counter()
    timer = threading.Timer(
        SLOW,
        _log.warning,
        (
            "the plugin %s is still being imported after %g s: the environment variable "
            "CROSSFIT_PLUGINS limits which plugins are loaded",
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
