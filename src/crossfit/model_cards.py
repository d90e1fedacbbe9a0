"""Model cards: a page on a model for people, with front matter for the Hugging Face Hub."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossfit import registry
from crossfit._arguments import mapping_of, validated
from crossfit._text import printable, shown
from crossfit.cards import Card, DatasetCard, ExtractorCard, MethodCard

__all__ = ["model_card"]

_FIRST_LINES = "---\nlibrary_name: crossfit\n"

# Pipelines and unions nest; this also stops objects that contain themselves.
_DEPTH = 20

#: Identifiers of the hub; others are ``other`` with their name.
_LICENCES = set(
    """
    apache-2.0 mit openrail bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear isc zlib unlicense
    cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0
    cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 agpl-3.0 mpl-2.0
    pddl odc-by odbl unknown other
    """.split()  # noqa: SIM905
)


class _Part(NamedTuple):
    """An estimator of a model, with its place as in ``set_params``."""

    place: str
    estimator: Any
    entry: registry.Entry | None

    @property
    def card(self) -> Card | None:
        return None if self.entry is None else self.entry.card


_TEXT = [str, None]


@validated(
    name=_TEXT, data=[str, Mapping, None], command=_TEXT, licence=_TEXT,
    language=[str, list, tuple, None], versions=[mapping_of(str), None], notes=_TEXT,
)  # fmt: skip
def model_card(
    model: Any,
    *,
    name: str | None = None,
    data: str | Mapping[str, Any] | None = None,
    measures: Any = None,
    command: str | None = None,
    licence: str | None = None,
    language: str | Sequence[str] | None = None,
    versions: Mapping[str, str] | None = None,
    notes: str | None = None,
) -> str:
    """Return a model card: Markdown with YAML front matter as on the Hugging Face Hub.

    `crossfit.save` writes one as ``README.md`` into every bundle. It holds what is known: the
    parts of the model with their parameters, the papers, and the licences of weights come from the
    model and from the cards of its parts; the rest is passed. What is not known is left out.

    Parameters
    ----------
    model : estimator
        What `crossfit.save` writes.
    name : str, optional
        Name of the model, by default that of its method and its views.
    data : str or mapping of str to object, optional
        The pairs of the fit: the name of a registered data set, or facts such as ``name``,
        ``pairs``, ``file``, ``hash``, ``split``, ``revision``, ``licence`` and ``citation``, of
        which each becomes a row.
    measures : Evaluation or list of mapping, optional
        Result of `crossfit.evaluate`; or rows with ``direction``, ``measure``, ``value`` and
        optionally ``low``, ``high``, ``level`` (coverage of the interval, such as 0.95) and ``n``
        (number of queries).
    command : str, optional
        Command or code that fits the model again.
    licence : str, optional
        Licence of the model, such as ``"cc-by-4.0"``.
    language : str or sequence of str, optional
        Codes of the languages of the texts, such as ``"en"``.
    versions : mapping of str to str, optional
        Versions by distribution, by default those of Python, NumPy, crossfit and of the parts.
    notes : str, optional
        Further text in Markdown: for what the model should be used, and for what it should not.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If `model` is not an estimator, or an argument is of another type.
    ValueError
        If a row of `measures` lacks its direction, its measure or its value.

    See Also
    --------
    save : Write a bundle, with its card.

    Examples
    --------
    >>> import numpy as np
    >>> import crossfit
    >>> from crossfit.methods import CCA
    >>> rng = np.random.default_rng(0)
    >>> cca = CCA(2).fit(rng.normal(size=(20, 3)), rng.normal(size=(20, 2)))
    >>> found = crossfit.evaluate(cca.similarity(rng.normal(size=(9, 3)), rng.normal(size=(9, 2))),
    ...                           (range(9), range(9)), names=("image", "text"))
    >>> card = model_card(cca, data="emoji", measures=found, licence="cc-by-4.0")
    >>> card.splitlines()[:3]
    ['---', 'library_name: crossfit', 'license: cc-by-4.0']
    """
    if not hasattr(model, "get_params") or isinstance(model, type):
        raise TypeError(f"model_card expects an estimator, got {shown(model)}")
    parts = list(_parts(model, "", 0))
    methods = [part for part in parts if isinstance(part.card, MethodCard)]
    views = _views(parts)
    title = _line(name) if name else _title(parts, methods, views)
    about, dataset = _about_data(data)
    rows = _measured(measures)
    held = dict(versions) if versions is not None else _versions(parts)
    front = {
        "library_name": "crossfit",
        **_licence(licence),
        **({"language": language if isinstance(language, str) else list(language)}
           if language else {}),
        "tags": list(dict.fromkeys(
            ["crossfit", "cross-modal-retrieval",
             *(part.entry.name for part in parts if part.entry is not None), *views]
        )),
        **({"datasets": [dataset.name]} if dataset else {}),
        **({"metrics": list(dict.fromkeys(row["measure"] for row in rows))} if rows else {}),
        **({"model-index": [_index(title, rows, about, dataset)]} if rows else {}),
    }  # fmt: skip
    import yaml

    head = yaml.safe_dump(front, sort_keys=False, allow_unicode=True, width=100)
    blocks = [
        f"# {_escaped(title)}", _lead(methods, views), notes or "", _model(parts),
        _data(about), _measures(rows), _licences(licence, about, parts), _use(parts, views),
        _repeat(command, parts, held), _citations(parts, about),
    ]  # fmt: skip
    body = "\n\n".join(block.strip("\n") for block in blocks if block)
    return f"---\n{head}---\n\n{body}\n"


def is_model_card(text: str) -> bool:
    """Return True if a text starts as the model cards that `model_card` returns."""
    return text.replace("\r\n", "\n").startswith(_FIRST_LINES)


# ---- what the model consists of ------------------------------------------------------------------


def _parts(value: Any, place: str, depth: int) -> Iterator[_Part]:
    try:
        entry = registry.entry_of(type(value))
    except registry.NotInstalledError:
        entry = None
    yield _Part(place, value, entry)
    if depth >= _DEPTH:
        return
    above = f"{place}__" if place else ""
    for name, held in value.get_params(deep=False).items():
        if _is_estimator(held):
            yield from _parts(held, f"{above}{name}", depth + 1)
        elif isinstance(held, list | tuple):
            for inner in held:
                if isinstance(inner, list | tuple) and len(inner) > 1 and _is_estimator(inner[1]):
                    yield from _parts(inner[1], f"{above}{inner[0]}", depth + 1)


def _is_estimator(value: Any) -> bool:
    return hasattr(value, "get_params") and not isinstance(value, type)


def _views(parts: Sequence[_Part]) -> list[str]:
    """Return the names of the views of the fit."""
    for part in parts:
        names = getattr(part.estimator, "views_in_", None)
        if isinstance(names, Mapping):
            return [_line(name) for name in names.values()]
    return []


def _name(part: _Part) -> str:
    return type(part.estimator).__name__


def _title(parts: Sequence[_Part], methods: Sequence[_Part], views: Sequence[str]) -> str:
    named = " and ".join(_name(part) for part in methods) or _name(parts[0])
    return f"{named} of {_listed(views)}" if views else named


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _lead(methods: Sequence[_Part], views: Sequence[str]) -> str:
    lines = []
    for part in methods:
        assert part.card is not None
        year = f" ({part.card.year})" if part.card.year else ""
        lines.append(f"{_name(part)}{year}: {_escaped(part.card.summary)}.")
    if len(views) > 1:
        lines.append(
            f"A model for cross-modal retrieval: it finds items of one of the views "
            f"{_escaped(_listed(views))} for an item of another."
        )
    return " ".join(lines)


def _model(parts: Sequence[_Part]) -> str:
    rows = []
    for part in parts:
        origin = type(part.estimator).__module__.partition(".")[0]
        if part.entry is not None:
            origin = f"`{part.entry.name}` of {part.entry.distribution} {part.entry.version}"
        rows.append([_code(part.place or "model"), _code(_name(part)), origin, _settings(part)])
    facts = [
        f"- view {_code(view)}: {width} features"
        for part in parts
        if isinstance(part.card, MethodCard)
        for view, width in _widths(part.estimator)
    ]
    text = "## Model\n\n" + _table(["part", "class", "from", "parameters"], rows)
    return text + ("\n\nThe method takes:\n\n" + "\n".join(dict.fromkeys(facts)) if facts else "")


def _widths(method: Any) -> list[tuple[str, int]]:
    widths = getattr(method, "n_features_in_", None)
    names = getattr(method, "views_in_", None)
    if not isinstance(widths, Mapping) or not isinstance(names, Mapping):
        return []
    return [(names.get(role, role), int(width)) for role, width in widths.items()]


def _settings(part: _Part) -> str:
    """Return all parameters of a registered part, whose defaults may change, and others' own."""
    import inspect

    defaults = inspect.signature(type(part.estimator).__init__).parameters
    forgotten = getattr(type(part.estimator), "__crossfit_transient__", ())
    found = []
    for name, value in part.estimator.get_params(deep=False).items():
        nested = _is_estimator(value) or (
            isinstance(value, list | tuple)
            and any(isinstance(each, list | tuple) and len(each) > 1 and
                    (_is_estimator(each[1]) or isinstance(each[1], str)) for each in value)
        )  # fmt: skip
        if nested or name in forgotten:
            continue
        usual = name in defaults and shown(defaults[name].default) == shown(value)
        if part.entry is not None or not usual:
            found.append(f"{name}={_plain(value)}")
    return _code(", ".join(found)) if found else ""


def _plain(value: Any) -> str:
    """Return a value without addresses in memory, which differ between runs."""
    return re.sub(r" at 0x[0-9a-f]+", "", shown(value))


# ---- data and measures ---------------------------------------------------------------------------


def _about_data(data: Any) -> tuple[dict[str, Any], DatasetCard | None]:
    """Return the facts that are known about the data, and the card of a registered set."""
    about = {"name": data} if isinstance(data, str) else dict(data or {})
    about = {key: value for key, value in about.items() if value not in (None, "", {}, [])}
    name, card = about.get("name"), None
    if isinstance(name, str):
        try:
            card = registry.get(name, "crossfit.datasets")
        except (registry.RegistryError, ValueError):
            card = None
    if isinstance(card, DatasetCard):
        known = {"licence": card.licence, "url": card.url, "citation": card.citation}
        about |= {key: value for key, value in known.items() if value and key not in about}
        return about, card
    return about, None


def _measured(measures: Any) -> list[dict[str, Any]]:
    """Return one mapping for each measure that has a value."""
    level = None
    if hasattr(measures, "rows") and callable(measures.rows):
        level = getattr(getattr(measures, "evaluation", measures), "ci", None)
        measures = measures.rows()
    if measures is None:
        return []
    if not isinstance(measures, list | tuple) or not all(
        isinstance(row, Mapping) for row in measures
    ):
        raise TypeError(
            f"measures must be an Evaluation or a list of mappings, got {shown(measures)}"
        )
    found = []
    for row in measures:
        measure = row.get("measure", row.get("metric"))
        direction, value = row.get("direction"), row.get("value")
        if (
            not isinstance(measure, str)
            or not isinstance(direction, str)
            or not isinstance(value, float | int | np.integer | np.floating)
        ):
            raise ValueError(
                "a row of measures must have a direction, a measure and a value, got "
                f"{shown(dict(row))}"
            )
        if not math.isfinite(value):
            continue
        own: dict[str, Any] = {
            "direction": _line(direction), "measure": _line(measure), "value": float(value)
        }  # fmt: skip
        for key, given in (
            ("low", row.get("low")),
            ("high", row.get("high")),
            ("level", row.get("level", level)),
        ):
            if isinstance(given, float | int | np.floating) and math.isfinite(given):
                own[key] = float(given)
        n = row.get("n", row.get("n_queries"))
        if isinstance(n, int | np.integer):
            own["n"] = int(n)
        found.append(own)
    return found


def _index(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    about: Mapping[str, Any],
    dataset: DatasetCard | None,
) -> dict[str, Any]:
    """Return an entry of ``model-index``, with a result for each direction."""
    name = _line(str(about.get("name") or about.get("file") or "the pairs of the evaluation"))
    data = {"type": dataset.name if dataset else "pairs", "name": name}
    data |= {
        key: _line(str(about[key])) for key in ("split", "revision") if key in about
    }  # fmt: skip
    results = []
    for direction in dict.fromkeys(row["direction"] for row in rows):
        metrics = []
        for row in rows:
            if row["direction"] != direction:
                continue
            metric = {"type": row["measure"], "value": row["value"], "name": row["measure"]}
            if "low" in row and "high" in row:
                level = f"{100 * row['level']:.0f} % " if "level" in row else ""
                metric["name"] = (
                    f"{row['measure']} ({level}interval {row['low']:.4g} to {row['high']:.4g})"
                )
                metric["args"] = {key: row[key] for key in ("low", "high", "level", "n")
                                  if key in row}  # fmt: skip
            metrics.append(metric)
        task = {"type": f"{_slug(direction)}-retrieval", "name": f"Retrieval, {direction}"}
        results.append({"task": task, "dataset": dict(data), "metrics": metrics})
    return {"name": title, "results": results}


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text).strip("-").lower() or "cross-modal"


def _data(about: Mapping[str, Any]) -> str:
    rows = [
        [_escaped(key.replace("_", " ")), _escaped(_inline(value))]
        for key, value in about.items()
        if key not in ("citation", "licence")
    ]
    return "## Data\n\n" + _table(["", ""], rows) if rows else ""


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {_inline(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_inline, value))
    return str(value) if isinstance(value, str | int | float) else shown(value)


def _measures(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    levels = {row["level"] for row in rows if "level" in row}
    head = f"{100 * levels.pop():.0f} % interval" if len(levels) == 1 else "interval"
    lines = []
    for row in rows:
        interval = f"{row['low']:.4g} to {row['high']:.4g}" if {"low", "high"} <= set(row) else ""
        lines.append([
            _escaped(row["direction"]), _escaped(row["measure"]), f"{row['value']:.4g}", interval,
            str(row.get("n", "")),
        ])  # fmt: skip
    table = _table(["direction", "measure", "value", head, "queries"], lines)
    return f"## Measures\n\n{table}"


# ---- licences, use, repetition and citations -----------------------------------------------------


def _licence(licence: str | None) -> dict[str, str]:
    if not licence:
        return {}
    known = _line(licence).lower()
    if known in _LICENCES:
        return {"license": known}
    return {"license": "other", "license_name": _line(licence)}


def _licences(licence: str | None, about: Mapping[str, Any], parts: Sequence[_Part]) -> str:
    rows = [["this model", _escaped(licence)]] if licence else []
    if about.get("licence"):
        rows.append(["the data of the fit", _escaped(str(about["licence"]))])
    for part in parts:
        if isinstance(part.card, ExtractorCard) and (part.card.weights or part.card.licence):
            words = "; ".join(
                [
                    *([f"source: {part.card.weights}"] if part.card.weights else []),
                    *([f"licence: {part.card.licence}"] if part.card.licence else []),
                ]
            )
            rows.append([f"the weights of {_code(part.place or _name(part))}", _escaped(words)])
    rows = [list(row) for row in dict.fromkeys(map(tuple, rows))]
    return "## Licences\n\n" + _table(["what", "terms"], rows) if rows else ""


def _use(parts: Sequence[_Part], views: Sequence[str]) -> str:
    """Return how the bundle is installed, loaded and searched."""
    wanted = dict.fromkeys(
        [registry.CORE, *(part.entry.distribution for part in parts if part.entry is not None)]
    )
    lines = ["import crossfit", "", 'model = crossfit.load("FOLDER")  # or "hf://USER/NAME"']
    if len(views) > 1:
        query, gallery = views[0], views[1]
        lines += [
            f"found = crossfit.search(model, queries, view={query!r}, gallery=items, "
            f"gallery_view={gallery!r}, k=10)",
            "found.indices, found.scores  # rows of the gallery, best first",
        ]
    elif not any(isinstance(part.card, MethodCard) for part in parts):
        lines.append("features = model.transform(items)")
    return (
        f"## Use\n\n{_fenced('pip install ' + ' '.join(wanted), 'console')}\n\n"
        f"{_fenced(chr(10).join(lines), 'python')}\n\n"
        "Nothing in the bundle is executed or unpickled when it is loaded."
    )


def _repeat(command: str | None, parts: Sequence[_Part], versions: Mapping[str, str]) -> str:
    seeds = [
        f"- seed: {_code(f'{part.place}__random_state' if part.place else 'random_state')} is "
        f"{value}"
        for part in parts
        if isinstance(value := part.estimator.get_params(deep=False).get("random_state"), int)
    ]
    held = ", ".join(f"{_line(name)} {_line(str(at))}" for name, at in versions.items())
    lines = ["## Repeat", _fenced(command, "console") if command else ""]
    lines.append("\n".join([*seeds, *([f"- versions: {_escaped(held)}"] if held else [])]))
    return "\n\n".join(line for line in lines if line)


def _versions(parts: Sequence[_Part]) -> dict[str, str]:
    import sklearn

    import crossfit

    found = {
        "Python": platform.python_version(), registry.CORE: crossfit.__version__,
        "numpy": np.__version__, "scikit-learn": sklearn.__version__,
    }  # fmt: skip
    entries = [part.entry for part in parts if part.entry is not None]
    return found | {entry.distribution: entry.version for entry in entries}


def _citations(parts: Sequence[_Part], about: Mapping[str, Any]) -> str:
    given = [part.card.citation for part in parts if part.card is not None]
    texts = [printable(text, lines=True).strip() for text in [*given, about.get("citation")]
             if isinstance(text, str)]  # fmt: skip
    texts = [text for text in dict.fromkeys(texts) if text]
    return "## Citation\n\n" + _fenced("\n\n".join(texts), "bibtex") if texts else ""


# ---- Markdown ------------------------------------------------------------------------------------


def _line(text: str) -> str:
    return " ".join(printable(text).split())


def _escaped(text: str) -> str:
    return re.sub(r"([\\|*_`\[\]$])", r"\\\1", _line(text)).replace("<", "&lt;")


def _code(text: str) -> str:
    """Return a code span, also of a text with backticks, that fits into a table."""
    text = _line(text).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if longest else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip(chr(10))}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
