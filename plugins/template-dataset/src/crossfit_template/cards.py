"""The card of the plugin's data set. Imports no heavy packages."""

from __future__ import annotations

from crossfit.cards import DatasetCard

TEMPLATE = DatasetCard(
    api=1,
    name="template",
    target="crossfit_template.loader:load",
    summary="Pictures with a caption and a class each",
    modalities=("image", "text"),
    labels="single",
    licence="as stated by its authors, or that they do not state one",
    # citation and year: those of the paper.
    url="https://example.org/template",
    counts={"train": 9, "test": 3},
    splits=("official",),
    # Writes a few made-up items in the official layout, to test the loader without the data.
    make_files="crossfit_template.testing:make_files",
)
