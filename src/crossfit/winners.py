"""Winners: fitted pipelines in a folder, with what is known of how they were made.

The folder is a bundle of `crossfit.save`, with a further file: ``record.json`` states the views and
their kinds, the columns, the pairs, the measures with their intervals and the command that repeats
it. Its hash is in the manifest, so that it is uploaded, downloaded and checked as the model is.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import crossfit
from crossfit._arguments import a_path, validated
from crossfit.hub import bundle_from_hub, is_address, parsed
from crossfit.persistence import load
from crossfit.persistence.bundles import (
    content_of,
    load_named,
    note_commit,
    read_record,
    save_with_record,
)
from crossfit.persistence.files import CARD, MANIFEST, MOST_BYTES

if TYPE_CHECKING:
    from crossfit.compose import ViewTransformer

__all__ = ["Winner", "evaluate_winner", "read_winner", "write_winner"]

#: Metrics of a winner if none are named: without labels, and with them.
METRICS = ("mrr", "r@1", "r@5", "r@10", "medr")
BY_LABEL = ("map@all", *METRICS[1:])
#: Largest size in bytes of the features of a gallery that are kept together.
_KEPT = 2**29
_CARD_BYTES = 2**18


@dataclass(frozen=True, eq=False)
class Winner:
    """A fitted pipeline and what is known of it.

    Parameters
    ----------
    model : estimator
        The pipeline of extractors, method and scorer.
    record : mapping of str to object
        Content of ``record.json``; empty for a bundle without one.
    folder : pathlib.Path
        Folder that it was read from.
    name : str, default="winner"
        Name of the folder, or of the repository, ``user/name``.
    card : str, default=""
        Content of ``README.md``, at most 256 KiB.
    digest : str, default=""
        Hash of the manifest.

    See Also
    --------
    read_winner : Read one.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> Winner(CCA().fit(crossfit.Views(image=Z, text=Z[:, ::-1]))).kind("image")
    'picture'
    """

    model: Any
    record: Mapping[str, Any] = field(default_factory=dict)
    folder: Path = field(default_factory=Path)
    name: str = "winner"
    card: str = ""
    digest: str = ""

    @property
    def views(self) -> tuple[str, ...]:
        """Names of the views, in the order of the fit."""
        from crossfit.querying import answering, view_names

        return view_names(answering(self.model)[1])

    def kind(self, view: str) -> str | None:
        """Return the kind of the items of a view: picture, sound, text, vector, or None.

        Parameters
        ----------
        view : str
            Name of the view.
        """
        known = dict(self.record.get("kinds") or {})
        usual = {"image": "picture", "audio": "sound", "text": "text"}
        found = known.get(view, usual.get(view))
        return None if found is None else str(found)

    def of_kind(self, kind: str) -> list[str]:
        """Return the views whose items are of a kind.

        Parameters
        ----------
        kind : {"picture", "sound", "text", "vector"}
            The kind.
        """
        return [view for view in self.views if self.kind(view) == kind]


def is_winner(place: str | os.PathLike[str]) -> bool:
    """Return True for an address on the hub, and the folder of a bundle."""
    return is_address(place) or (Path(place) / MANIFEST).is_file()


@validated(place=[a_path()])
def read_winner(place: str | os.PathLike[str]) -> Winner:
    """Read a winner, or a bundle without a record.

    Parameters
    ----------
    place : path
        The folder, or its address on the Hugging Face Hub, ``hf://user/name@revision``.

    Returns
    -------
    Winner

    Raises
    ------
    FileNotFoundError
        If there is no bundle.
    crossfit.BundleError, TypeError
        If the bundle or its record is rejected, or the model cannot search.
    OSError
        If the hub cannot be reached or rejects the request.

    See Also
    --------
    write_winner : Write one.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> method = CCA().fit(crossfit.Views(image=Z, text=Z[:, ::-1]))
    >>> read_winner(crossfit.save(method, tempfile.mkdtemp() + "/winner")).views
    ('image', 'text')
    """
    made = read_bundle(place)
    try:
        made.views  # noqa: B018
    except TypeError as error:
        raise TypeError(f"{place} cannot search: {error}") from None
    return made


def read_bundle(place: str | os.PathLike[str]) -> Winner:
    """Read a bundle as `read_winner` does, also one of a model that cannot search."""
    if isinstance(place, str) and is_address(place):
        with bundle_from_hub(place, max_bytes=MOST_BYTES, whole=True) as (folder, address):
            made = _read(folder, address, parsed(address)[0])
        note_commit(place, address)
        return replace(made, folder=Path())
    folder = Path(place)
    if not is_winner(folder):
        raise FileNotFoundError(
            f"{str(folder)!r} is not a bundle, which crossfit fit --save and crossfit.save write"
        )
    return _read(folder, str(folder), folder.resolve().name)


def _read(folder: Path, called: str, name: str) -> Winner:
    record = read_record(folder, called)  # before the arrays, which may be large
    return Winner(
        load_named(folder, called),
        record,
        folder,
        name,
        _card_of(folder),
        hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest(),
    )


def extractors_of(winner: Winner) -> ViewTransformer:
    """Return the first steps of a fitted pipeline that transform its views, as one step.

    Raises
    ------
    ValueError
        If it has no such steps, or one that transforms several views together.
    """
    from crossfit.compose import ALL_VIEWS

    chain, _ = _divided(winner.model)
    if not chain or any(ALL_VIEWS in step.transformers_ for step in chain):
        what = "transforms several views together" if chain else "has no extractors"
        raise ValueError(f"{winner.name} {what}; name extractors in its place")
    if len(chain) == 1:
        return chain[0]
    return _joined({view: _parts(chain, view) for view in chain[0].transformers_}, chain[0])


def on_features(winner: Winner, folder: str | os.PathLike[str]) -> Winner:
    """Return a winner that takes the features in a folder in place of the items.

    Raises
    ------
    ValueError
        If they were made by other extractors than those of the winner.
    """
    from sklearn.pipeline import Pipeline

    chain, rest = _divided(winner.model)
    own = Path(folder) / "extractors"
    made = load(own).transformers_ if own.is_dir() else {}
    left = {view: _parts(chain, view) for view in winner.views}
    for view, extractor in made.items():
        if isinstance(extractor, str) or view not in left:
            continue
        parts, wanted = left[view], content_of(extractor)
        starts = (n for n in range(1, len(parts) + 1) if content_of(_one(parts[:n])) == wanted)
        n = next(starts, None)
        if n is None:
            raise ValueError(
                f"the features of {view!r} in {str(folder)!r} were made by other extractors than "
                f"those of {winner.name}; give the items themselves, or embed them again by "
                "crossfit embed --with"
            )
        left[view] = parts[n:]
    if any(left.values()):
        rest = [("features", _joined(left, chain[0])), *rest]
    return replace(winner, model=Pipeline(rest), digest="")  # another model than that of the folder


def _divided(model: Any) -> tuple[list[ViewTransformer], list[tuple[str, Any]]]:
    """Return the first steps of a pipeline that are ViewTransformers, and the others."""
    from sklearn.pipeline import Pipeline

    from crossfit.compose import ViewTransformer

    steps = list(model.steps) if isinstance(model, Pipeline) else [("model", model)]
    chain = list(itertools.takewhile(lambda step: isinstance(step[1], ViewTransformer), steps))
    return [step for _, step in chain], steps[len(chain) :]


def _parts(chain: Sequence[ViewTransformer], view: str) -> list[Any]:
    """Return the transformers of a view, in their order."""
    found = [step.transformers_.get(view, "passthrough") for step in chain]
    return [part for part in found if not isinstance(part, str)]


def _one(parts: list[Any]) -> Any:
    """Return fitted transformers as one: a pipeline that is built and not fitted."""
    from sklearn.pipeline import Pipeline

    if not parts:
        return "passthrough"
    return parts[0] if len(parts) == 1 else Pipeline([(f"{i}", p) for i, p in enumerate(parts)])


def _joined(parts: Mapping[str, list[Any]], first: ViewTransformer) -> ViewTransformer:
    from crossfit.compose import ViewTransformer

    stage = ViewTransformer([(view, _one(own)) for view, own in parts.items()])
    stage.transformers_ = dict(stage.transformers)
    stage.views_in_, stage.feature_names_in_ = first.views_in_, first.feature_names_in_
    return stage


def _card_of(folder: Path) -> str:
    path = folder / CARD
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return file.read(_CARD_BYTES).decode(errors="replace")


def write_winner(
    model: Any,
    record: Mapping[str, Any],
    folder: str | os.PathLike[str],
    card: str | None = None,
) -> Path:
    """Write a fitted pipeline with its record; the folder appears when it is complete.

    Parameters
    ----------
    model : estimator
        As for `crossfit.save`.
    record : mapping of str to object
        Content of ``record.json``.
    folder : path
        Must not exist.
    card : str, optional
        Content of ``README.md``, as of `crossfit.model_card`.

    Returns
    -------
    pathlib.Path
        The folder.

    Raises
    ------
    FileExistsError
        If the folder exists.
    crossfit.BundleError
        If the model cannot be saved.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> method = CCA().fit(crossfit.Views(image=Z, text=Z[:, ::-1]))
    >>> record = {"kinds": {"image": "vector", "text": "vector"}}
    >>> folder = write_winner(method, record, tempfile.mkdtemp() + "/winner")
    >>> read_winner(folder).kind("image")
    'vector'
    """
    folder = Path(folder)
    if os.path.lexists(folder):
        raise FileExistsError(f"{str(folder)!r} exists already; choose a new folder")
    return save_with_record(model, folder, record, card)


def kind_of_items(items: Any) -> str:
    """Return the kind of the items of a view, as far as they show it: text or vector."""
    strings = isinstance(items, np.ndarray) and items.ndim == 1 and isinstance(items[0], str)
    return "text" if strings else "vector"


def evaluate_winner(
    winner: Winner,
    split: Any,
    metrics: Sequence[str] | None = None,
    *,
    ties: str = "expected",
    random_state: int = 0,
    revision: str | None = None,
) -> Any:
    """Evaluate a fitted pipeline on pairs, in both directions between its first two views.

    Parameters
    ----------
    winner : Winner
        The pipeline.
    split : Split
        The pairs. Metrics by label use their labels, if they have any; ranks and recall count the
        paired items.
    metrics : sequence of str, optional
        By default ``mrr``, or ``map@all`` with labels, recall and the median rank.
    ties, random_state
        See `crossfit.systems.evaluate_matrix`.
    revision : str, optional
        Revision of the pairs. If it is that of the pairs of the fit, a note states so.

    Returns
    -------
    SystemEvaluation
        Queries of one group, such as the captions of a picture, are resampled together.

    Examples
    --------
    >>> import numpy as np
    >>> from crossfit.datasets import Split
    >>> from crossfit.methods import CCA
    >>> Z = np.random.default_rng(0).normal(size=(20, 3))
    >>> views = crossfit.Views(image=Z, text=Z[:, ::-1])
    >>> evaluate_winner(Winner(CCA().fit(views)), Split(views), ["r@1"]).mean("r@1")
    1.0
    """
    from crossfit.experiment.evaluate import by_label, score_matrix
    from crossfit.metrics.directions import Direction
    from crossfit.scoring import relevance_of
    from crossfit.systems.evaluation import evaluate_matrix, joined

    views, y = split.views, split.y
    lacking = [view for view in winner.views if view not in views]
    if lacking:
        raise ValueError(
            f"the model was fitted on the views {', '.join(winner.views)}, but the pairs have "
            f"{', '.join(views.names)}"
        )
    views = views.select(*winner.views)
    wanted = list(metrics or (METRICS if y is None else BY_LABEL))
    names = winner.views[:2]
    groups = {name: views.groups[views.first_rows(name)] for name in names}
    ids = {name: [str(i) for i in range(len(groups[name]))] for name in names}
    parts = []
    for direction in Direction.between(names):
        query, gallery = direction.query, direction.gallery
        with score_matrix(winner.model, views, query, gallery) as scores:
            for labelled in dict.fromkeys(by_label(metric, "auto", y) for metric in wanted):
                parts.append(
                    evaluate_matrix(
                        scores,
                        relevance_of(views, query, gallery, y if labelled else None),
                        [metric for metric in wanted if by_label(metric, "auto", y) == labelled],
                        query_ids=ids[query], item_ids=ids[gallery], ties=ties,
                        random_state=random_state, groups=(groups[query], groups[gallery]),
                        names=(query, gallery), directions="forward",
                    )
                )  # fmt: skip
    found = joined(parts)
    about = winner.record.get("data") or {}
    if revision is not None and revision == about.get("revision"):
        n = (about.get("pairs") or {}).get("train", "some")
        note = (
            f"The model was fitted on {n} of these pairs, so that its figures are better than "
            "those on new pairs; those on held-out pairs are in its card."
        )
        found = replace(found, notes=(*found.notes, note))
    return found


def pairs_for(
    winner: Winner, source: str | os.PathLike[str], columns: Mapping[str, Any] | None = None
) -> tuple[str, Any, str | None]:
    """Read pairs as those that a winner was fitted on.

    Parameters
    ----------
    winner : Winner
        Its record names the columns and which views are files.
    source : path
        Anything that `crossfit.datasets.read_pairs` reads.
    columns : mapping of str to str or list of str, optional
        Columns by view that replace those of the record.

    Returns
    -------
    name : str
        The name of the split: ``test``, or the only one.
    split : Split
    revision : str or None
        Revision of the pairs if they are one split, and None if they are divided.

    Raises
    ------
    ValueError
        If the pairs have several splits and none is called ``test``.
    """
    from crossfit.datasets import read_pairs

    path = Path(source)
    options = options_for(winner, path, columns)
    found = read_pairs(source, **options)
    name = "test" if "test" in found else next(iter(found.splits))
    if name != "test" and len(found.splits) > 1:
        raise ValueError(
            f"{str(path)!r} has the splits {', '.join(found.splits)}: expected pairs that are not "
            "divided, or a split 'test'"
        )
    return name, found[name], found.revision if len(found.splits) == 1 else None


def options_for(
    winner: Winner, source: str | os.PathLike[str], columns: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the options with which `read_pairs` reads a table as that of the fit."""
    from crossfit.datasets.opening import header_of

    options: dict[str, Any] = {}
    path = Path(source)
    if path.is_file() and path.suffix.lower() != ".tar":
        there = {name.strip().casefold() for name in header_of(path)[1]}
        known = columns or winner.record.get("columns") or {}
        named = [
            column for own in known.values() for column in ([own] if isinstance(own, str) else own)
        ]
        if known and (columns or {name.strip().casefold() for name in named} <= there):
            options["views"] = dict(known)
        kinds = winner.record.get("kinds") or {}
        files = [view for view, kind in kinds.items() if kind in ("picture", "sound")]
        options["paths"] = list(dict.fromkeys(["image", "audio", *files]))
    elif columns:
        raise ValueError(f"columns are those of a table, and {str(path)!r} is not one")
    return options


def gallery_for(
    winner: Winner, source: Any, query_view: str, view: str | None = None, column: str | None = None
) -> tuple[str, Any]:
    """Read the gallery of a search with a winner.

    Parameters
    ----------
    winner : Winner
        The pipeline.
    source : path
        As for `crossfit.galleries.read_gallery`.
    query_view : str
        The view of the query.
    view : str, optional
        The view of the gallery. By default, the one other than that of the query; if there are
        several, the one of the kind that the gallery has.
    column : str, optional
        Column of a table that has the items.

    Returns
    -------
    view : str
    gallery : Gallery

    Raises
    ------
    ValueError
        If there is no such view, or the gallery is of another kind.
    """
    from crossfit.galleries import KINDS, read_gallery

    if view is not None and view not in winner.views:
        raise ValueError(f"there is no view {view!r}: the views are {', '.join(winner.views)}")
    others = [view] if view else [name for name in winner.views if name != query_view]
    if len(others) > 1:
        kind = read_gallery(source, column=column).kind
        found = [name for name in others if winner.kind(name) == kind]
        if len(found) != 1:
            raise ValueError(
                f"the gallery may belong to the views {', '.join(found or others)}; name one of "
                "them"
            )
        others = found
    chosen = str(others[0])
    own = winner.kind(chosen)
    if own not in KINDS:
        raise ValueError(
            f"the view {chosen!r} holds vectors, which have no gallery of files or texts; name the "
            "extractor in crossfit fit, or embed the pairs by crossfit embed"
        )
    known = (winner.record.get("columns") or {}).get(chosen)
    wanted = column
    if wanted is None and isinstance(known, str) and Path(source).is_file():
        from crossfit.datasets.opening import header_of

        there = {name.strip().casefold() for name in header_of(Path(source))[1]}
        wanted = known if known.strip().casefold() in there else None
    return chosen, read_gallery(source, chosen, own, column=wanted)


def search_winner(
    winner: Winner, query: Any, query_view: str, gallery: Any, view: str, k: int = 10
) -> Any:
    """Search a gallery, whose features are kept in the feature cache.

    Parameters
    ----------
    winner : Winner
        The pipeline.
    query : str
        A text, or the path of a picture or sound.
    query_view : str
        Its view.
    gallery : Gallery
        As of `gallery_for`.
    view : str
        The view of the gallery.
    k : int, default=10
        Number of results; all items of a smaller gallery.

    Returns
    -------
    SearchResult
    """
    from crossfit.querying import answering  # imports scikit-learn, which runs do not need
    from crossfit.views import Views

    steps, last = answering(winner.model)
    asked = Views({query_view: [query]})
    for step in steps:
        asked = step.transform(asked)
    items = _features(winner, steps, gallery, view)
    return crossfit.search(
        last, asked[query_view], view=query_view, gallery=items, gallery_view=view,
        ids=gallery.ids, k=k,
    )  # fmt: skip


def _features(winner: Winner, steps: Sequence[Any], gallery: Any, view: str) -> Any:
    """Return the features of a gallery, from the cache if its files have not changed."""
    from crossfit.cache import FeatureCache
    from crossfit.views import Views

    cache = FeatureCache()
    key = _key(winner, gallery, view) if winner.digest else ""
    found = cache.get_many([key]).get(key) if key else None
    if found is not None:
        return found
    items = Views({view: gallery.items})
    for step in steps:
        items = step.transform(items)
    made = items[view]
    if key and steps and isinstance(made, np.ndarray) and made.nbytes < _KEPT:
        cache.put_many({key: made}, "galleries")
    return made


def _key(winner: Winner, gallery: Any, view: str) -> str:
    """Return a key of the winner and of the content of a gallery, by the state of its files."""
    total = hashlib.sha256(winner.digest.encode())
    total.update(f"{crossfit.__version__} {view} {gallery.kind}".encode())
    for item in gallery.items:
        total.update(str(item).encode(errors="surrogatepass") + b"\0")
        if gallery.kind != "text":
            state = os.stat(str(item).partition("::")[0])
            total.update(f"{state.st_mtime_ns} {state.st_size}".encode())
    return f"gallery-{total.hexdigest()}"


def versions() -> dict[str, str]:
    """Return the versions of crossfit and of the libraries that the results depend on."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version(), "crossfit": crossfit.__version__}
    for name in ("numpy", "scipy", "scikit-learn", "torch"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
