"""The card of the plugin's extractor. Imports no heavy packages."""

from __future__ import annotations

from crossfit.cards import ExtractorCard, Int

TEMPLATE = ExtractorCard(
    api=1,
    name="template",
    target="crossfit_template.extractor:Template",
    summary="Mean colours of the patches of a picture",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions"),
    needs_fit=False,
    # weights and licence: those of trained weights, if there are any.
    search_space={"n_patches": Int(2, 8)},
    test_params={"n_patches": 2},
)
