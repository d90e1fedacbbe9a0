"""The cards of the plugin: its methods and its experiment. Imports no heavy packages."""

from __future__ import annotations

from crossfit.cards import Each, ExperimentCard, Float, Int, MethodCard

_CITATION = """@article{izenman1975reduced,
  title={Reduced-Rank Regression for the Multivariate Linear Model},
  author={Izenman, Alan Julian},
  journal={Journal of Multivariate Analysis},
  volume={5},
  number={2},
  pages={248--264},
  year={1975}
}"""

TEMPLATE = MethodCard(
    api=1,
    name="template",
    target="crossfit_template.estimator:Template",
    summary="Reduced-rank ridge regression of the text on the image",
    roles=("image", "text"),
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=1975,
    citation=_CITATION,
    search_space={
        "n_components": Int(2, 256, log=True),
        "reg": Float(1e-4, 10.0, log=True),
    },
    test_params={"n_components": 6},
)

TEMPLATE_NET = MethodCard(
    api=1,
    name="template-net",
    target="crossfit_template.network:TemplateNet",
    summary="Two branches of fully connected layers, trained to rank each pair first",
    roles=("image", "text"),
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=1975,
    citation=_CITATION,
    search_space={
        "n_components": Int(16, 256, log=True),
        "hidden": Each(("image", "text"), Int(32, 512, log=True)),
        "lr": Float(1e-4, 1e-2, log=True),
        "margin": Float(0.05, 0.5),
    },
    test_params={
        "n_components": 16,
        "hidden": {"image": 64, "text": 64},
        "max_epochs": 20,
        "lr": 3e-3,
        "device": "cpu",
    },
    # Required for tokens, strings, pixels or channels; the kit generates vectors itself.
    make_inputs="crossfit_template.testing:make_inputs",
)

EMOJI = ExperimentCard(
    api=1,
    name="anon-2026-template-emoji",
    target="crossfit_template:experiments/anon-2026-template-emoji.yaml",
    summary="Both forms of the method and CCA on the emoji set",
    datasets=("emoji",),
    methods=("template", "template-net", "cca"),
)
