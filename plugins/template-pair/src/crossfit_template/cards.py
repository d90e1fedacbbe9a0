"""The card of the plugin's method. Imports no heavy packages."""

from __future__ import annotations

from crossfit.cards import Float, Int, MethodCard

TEMPLATE = MethodCard(
    api=1,
    name="template",
    target="crossfit_template.network:Template",
    summary="A text attends to the regions of an image, and the attended region scores the pair",
    roles=("image", "text"),
    # Regions are (n, R, d), or a Ragged if images have different numbers of regions.
    inputs={"image": ("regions",), "text": ("vectors",)},
    labels="none",
    kind="pair",
    # year and citation: those of the paper.
    search_space={
        "width": Int(16, 256, log=True),
        "temperature": Float(1.0, 20.0, log=True),
        "lr": Float(1e-4, 1e-2, log=True),
    },
    test_params={"width": 24, "max_epochs": 30, "lr": 5e-3, "batch_size": 40, "device": "cpu"},
)
