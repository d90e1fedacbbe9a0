"""Data sets: loaders of official layouts, tables and folders of pairs, and the emoji set."""

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {
    "Dataset": "record",
    "Split": "record",
    "available": "loading",
    "from_csv": "tables",
    "from_folder": "folders",
    "from_precomputed": "precomputed",
    "from_table": "tables",
    "from_webdataset": "webdataset",
    "load": "loading",
    "read_pairs": "pairs",
    "read_vectors": "vectors",
    "write_embeddings": "vectors",
}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(
    __name__,
    _HOMES,
    (
        "audiocaps",
        "clotho",
        "coco",
        "emoji",
        "esc10",
        "flickr30k",
        "flickr8k",
        "imageclef",
        "music",
        "nus_wide",
        "pascal_sentences",
        "voc2007",
        "wikipedia",
        "wikipedia_captions",
    ),
)

if TYPE_CHECKING:
    from crossfit.datasets.folders import from_folder as from_folder
    from crossfit.datasets.loading import available as available
    from crossfit.datasets.loading import load as load
    from crossfit.datasets.pairs import read_pairs as read_pairs
    from crossfit.datasets.precomputed import from_precomputed as from_precomputed
    from crossfit.datasets.record import Dataset as Dataset
    from crossfit.datasets.record import Split as Split
    from crossfit.datasets.tables import from_csv as from_csv
    from crossfit.datasets.tables import from_table as from_table
    from crossfit.datasets.vectors import read_vectors as read_vectors
    from crossfit.datasets.vectors import write_embeddings as write_embeddings
    from crossfit.datasets.webdataset import from_webdataset as from_webdataset
