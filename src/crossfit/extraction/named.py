"""Extractors from their short form, as on command lines and in experiment files."""

from __future__ import annotations

import csv
import inspect
import json
from typing import Any

from crossfit import registry
from crossfit._suggest import did_you_mean

__all__ = ["make_extractor", "parse_extractor"]

_GROUP = "crossfit.extractors"


def make_extractor(text: str) -> Any:
    """Build an extractor from its short form.

    Parameters
    ----------
    text : str
        The name of an installed extractor, alone or followed by a colon and its arguments; see
        `parse_extractor`.

    Returns
    -------
    transformer
        The extractor, not fitted.

    Raises
    ------
    ValueError
        If the text does not have this form, or an argument does not exist.
    crossfit.registry.RegistryError
        If no such extractor is installed.

    Examples
    --------
    >>> from crossfit.extraction import make_extractor
    >>> make_extractor("grid:4,output=regions")
    GridFeatures(grid=4, output='regions')
    """
    name, params = parse_extractor(text)
    return registry.load(name, _GROUP)(**params)


def parse_extractor(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the parameters of an extractor in its short form.

    Parameters
    ----------
    text : str
        ``name``, or ``name:argument,argument,parameter=argument``, where the name may begin with
        its distribution (``crossfit-wheels:minilm``). Arguments without a name are those of the
        class in their order. ``true``, ``false``, ``null`` and numbers have their meaning in JSON,
        anything else is a string; an argument with a comma is in double quotes.

    Returns
    -------
    name : str
        The name of the extractor.
    params : dict of str to object
        The arguments by the names of the parameters.

    Raises
    ------
    TypeError, ValueError
        If the text does not have this form, or an argument does not exist.
    crossfit.registry.RegistryError
        If no such extractor is installed.

    Examples
    --------
    >>> from crossfit.extraction import parse_extractor
    >>> parse_extractor("backbone:vgg19,fc7,weights=vgg19.safetensors")
    ('backbone', {'name': 'vgg19', 'layer': 'fc7', 'weights': 'vgg19.safetensors'})
    """
    if not isinstance(text, str):
        raise TypeError(f"an extractor must be a text 'name:arguments', got {text!r}")
    name, _, rest = text.partition(":")
    try:
        registry.find(name, _GROUP)
    except registry.NotInstalledError:
        if not rest:
            raise
        part, _, further = rest.partition(":")
        try:
            registry.find(f"{name}:{part}", _GROUP)
        except registry.NotInstalledError:
            # The error about the first part lists similar names.
            registry.find(name, _GROUP)
        name, rest = f"{name}:{part}", further
    if not rest:
        return name, {}
    known = {
        key: value
        for key, value in inspect.signature(registry.load(name, _GROUP)).parameters.items()
        if value.kind in (value.POSITIONAL_OR_KEYWORD, value.KEYWORD_ONLY)
    }
    order = [key for key, value in known.items() if value.kind is value.POSITIONAL_OR_KEYWORD]
    params: dict[str, Any] = {}
    for at, argument in enumerate(next(csv.reader([rest], skipinitialspace=True))):
        key, equals, value = argument.partition("=")
        key = key.strip()
        # A path may contain "=", a name of a parameter may not contain a slash or a dot.
        if not equals or not key.isidentifier():
            if at >= len(order):
                raise ValueError(
                    f"{text!r}: {name} has at most {len(order)} arguments without a name "
                    f"({', '.join(order)}); write further ones as parameter=value"
                )
            key, value = order[at], argument
        elif key not in known:
            hint = did_you_mean(key, known) or f"; it has {', '.join(known)}"
            raise ValueError(f"{text!r}: {name} has no parameter {key!r}{hint}")
        if key in params:
            raise ValueError(f"{text!r}: the parameter {key!r} is given twice")
        params[key] = _value(value.strip())
    return name, params


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if value is None or isinstance(value, (bool, int, float)) else text
