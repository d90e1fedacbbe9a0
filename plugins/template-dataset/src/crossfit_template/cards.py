"""What the plugin declares: its data set. Imports nothing heavy."""

from __future__ import annotations

from crossfit.cards import DatasetCard

TEMPLATE = DatasetCard(
    api=1,
    name="template",
    target="crossfit_template.loader:load",
    summary="Pictures with a caption and a class each",
    modalities=("image", "text"),
    labels="single",
    licence="what its authors allow; say so where nothing is stated",
    # citation and year: of the paper.
    url="https://example.org/template",
    counts={"train": 9, "test": 3},
    splits=("official",),
    # A few made-up items in the official layout, so that the loader is tried without the data.
    make_files="crossfit_template.testing:make_files",
)
