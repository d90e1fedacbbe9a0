"""Approximate structures of faiss over the vectors of an index: graphs, lists and bytes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit.retrieval._knn import faiss, selector
from crossfit.retrieval._segments import BLOCK, damaged, synced

__all__ = ["FEWEST", "KINDS", "Structure", "built", "default_settings", "kind_for", "settings_of"]

Array = NDArray[Any]

#: Kinds of structures.
KINDS = ("hnsw", "int8", "ivf-pq")
#: Least number of vectors of a kind, here that of the codes of a byte.
FEWEST = {"ivf-pq": 256}
#: Up to so many vectors, exact search takes milliseconds; up to so many, a graph fits into memory.
_EXACT, _GRAPH = 100_000, 2_000_000
#: Vectors per list that the lists are trained on.
_PER_LIST = 40
#: Rounds in which the codes of product quantisation are learned.
_ROUNDS = 8
#: Links per item of a graph, and candidates that are kept while it is built.
_LINKS, _CANDIDATES = 32, 100


class Structure:
    """A faiss index in a file, which is opened at once and read on first use.

    Parameters
    ----------
    folder : pathlib.Path
        Folder of the index.
    entry : dict
        What the manifest states of the structure.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    """

    def __init__(self, folder: Path, entry: Mapping[str, Any]) -> None:
        self.folder, self.file = folder, str(entry["file"])
        self.kind, self.digest = str(entry["kind"]), str(entry["sha256"])
        self.n_vectors = int(entry["vectors"])
        # The open file stays readable when a writer removes its name.
        self._descriptor = os.open(folder / self.file, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    @cached_property
    def index(self) -> Any:
        """The faiss index, whose file has the checksum of the manifest."""
        library = faiss()
        self.verify()
        path = f"/proc/self/fd/{self._descriptor}"
        mapped = library.IO_FLAG_MMAP if self.kind == "ivf-pq" else library.IO_FLAG_MMAP_IFC
        return library.read_index(path, mapped)

    def verify(self) -> None:
        """Raise a ValueError if the file does not have the checksum of the manifest."""
        with open(f"/proc/self/fd/{self._descriptor}", "rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != self.digest:
                raise damaged(self.folder, f"{self.file} does not have its checksum")

    def search(
        self,
        queries: Array,
        k: int,
        settings: Mapping[str, int],
        mask: NDArray[np.bool_] | None,
    ) -> Array:
        """Return about the k best vectors of each query; -1 where fewer were found.

        Parameters
        ----------
        queries : float32 array of shape (n, width)
        k : int
            Number of vectors.
        settings : dict of str to int
            One of `settings_of`.
        mask : bool array, optional
            Vectors to compare.

        Returns
        -------
        int64 array of shape (n, k)
        """
        library = faiss()
        chosen, _bits = (None, None) if mask is None else selector(mask)
        if self.kind == "hnsw":
            most = max(settings["efSearch"], k)
            given = library.SearchParametersHNSW(efSearch=most, sel=chosen)
        elif self.kind == "ivf-pq":
            inner = library.SearchParametersIVF(nprobe=settings["nprobe"], sel=chosen)
            given = library.SearchParametersPreTransform(index_params=inner)
        else:
            given = library.SearchParameters(sel=chosen)
        found: Array = self.index.search(queries, k, params=given)[1]
        return found


def kind_for(n_vectors: int) -> str:
    """Return the kind that suits a number of vectors."""
    if n_vectors < _EXACT:
        return "exact"
    return "hnsw" if n_vectors < _GRAPH else "ivf-pq"


def n_lists(n_vectors: int) -> int:
    """Return the number of lists for so many vectors: the power of two next to their root."""
    return int(2 ** np.clip(np.round(np.log2(n_vectors) / 2), 0, 16))


def settings_of(kind: str, n_vectors: int) -> list[list[dict[str, int]]]:
    """Return series of settings of a search, each from fast to thorough.

    `refine` is the number of candidates per result that are compared exactly. Codes of few bytes
    order near vectors poorly, so that more lists alone do not find them; more candidates do.
    """
    if kind == "hnsw":
        return [[{"efSearch": 2**power, "refine": 1} for power in range(4, 12)]]
    if kind == "int8":
        return [[{"refine": refine} for refine in (1, 2, 4, 8)]]
    most = n_lists(n_vectors)
    probes = [2**power for power in range(17) if 2**power <= most]
    return [
        [{"nprobe": probe, "refine": refine} for probe in probes] for refine in (10, 40, 160, 640)
    ]


def default_settings(kind: str, n_vectors: int) -> dict[str, int]:
    """Return the settings of a search that was not tuned."""
    if kind == "hnsw":
        return {"efSearch": 128, "refine": 1}
    if kind == "int8":
        return {"refine": 4}
    return {"nprobe": min(n_lists(n_vectors), 32), "refine": 10}


def built(
    folder: Path,
    file: str,
    kind: str,
    distance: bool,
    n_vectors: int,
    width: int,
    take: Callable[[Array], Array],
) -> str:
    """Build a structure, write it to a file, and return the checksum of the file.

    Parameters
    ----------
    folder, file : pathlib.Path, str
        Where it is written.
    kind : {"hnsw", "int8", "ivf-pq"}
        Its kind.
    distance : bool
        Whether vectors are compared by distance, not by inner product.
    n_vectors, width : int
        Shape of the vectors.
    take : callable
        Returns the vectors of some rows.
    """
    library = faiss()
    metric = library.METRIC_L2 if distance else library.METRIC_INNER_PRODUCT
    if kind == "hnsw":
        index = library.IndexHNSWFlat(width, _LINKS, metric)
        index.hnsw.efConstruction = _CANDIDATES
        sample = 0
    elif kind == "int8":
        index = library.index_factory(width, "SQ8", metric)
        sample = 100_000
    else:
        lists = n_lists(n_vectors)
        n_bytes = max(1, min(64, width // 4))
        bits = "" if n_vectors >= 10_000 else "x4"
        # The nearest lists are found exactly: a graph of their centres misses more of them the more
        # are asked for, so that no number of lists reached some items.
        rotation = f"OPQ{n_bytes}_{4 * n_bytes},IVF{lists},PQ{n_bytes}{bits}"
        index = library.index_factory(width, rotation, metric)
        turn = library.downcast_VectorTransform(index.chain.at(0))
        # faiss' own 50 and 40 rounds take minutes for a gain within the noise of the recall, which
        # candidates that are compared exactly make up for.
        turn.niter, turn.niter_pq, turn.niter_pq_0, turn.max_train_points = 4, 2, _ROUNDS, 2**14
        library.downcast_index(index.index).pq.cp.niter = _ROUNDS
        sample = max(_PER_LIST * lists, 65_536)
    if sample:
        rng = np.random.default_rng(0)
        some = np.sort(rng.choice(n_vectors, min(sample, n_vectors), replace=False))
        index.train(take(some))
    for start in range(0, n_vectors, BLOCK):
        index.add(take(np.arange(start, min(start + BLOCK, n_vectors))))
    path = folder / file
    library.write_index(index, str(path))
    return synced(path)
