"""Cards of the method and its experiments."""

from __future__ import annotations

from crossfit.cards import Choice, ExperimentCard, ExtractorCard, Float, Int, MethodCard

ACLN = MethodCard(
    api=1,
    name="acln",
    target="crossfit_acln.estimator:ACLN",
    summary="Shared attention over regions and words; class posteriors are compared",
    roles=("image", "text"),
    inputs={"image": ("regions", "pixels"), "text": ("tokens", "strings")},
    labels="single",
    kind="embedding",
    year=2017,
    citation="""@inproceedings{huang2017acln,
  author    = {Xin Huang and Zhaoda Ye and Yuxin Peng},
  title     = {Attention-Sharing Correlation Learning for Cross-Media Retrieval},
  booktitle = {Image and Graphics, 9th International Conference (ICIG 2017), Part I},
  series    = {LNCS},
  volume    = {10666},
  pages     = {477--488},
  year      = {2017},
  doi       = {10.1007/978-3-319-71607-7_42}
}""",
    search_space={
        "attention": Choice("shared", "separate", "none"),
        "lr": Float(1e-4, 2e-3, log=True),
        "width": Choice(128, 256, 512),
        "dropout": Float(0.0, 0.7),
        "corr_weight": Float(0.1, 10.0, log=True),
        "attn_act": Choice("tanh", None, when={"attention": ("shared", "separate")}),
        "max_epochs": Int(10, 60),
    },
    test_params={
        "width": 32,
        "max_epochs": 12,
        "lr": 4e-3,
        "dropout": 0.2,
        "device": "cpu",
    },
    make_inputs="crossfit_acln.testing:make_inputs",
)

ACLN_FEATURES = ExtractorCard(
    api=1,
    name="acln-features",
    target="crossfit_acln.features:ACLNFeatures",
    summary="fc7 of a fine-tuned AlexNet and FC2t of an ACLN, for all views of pairs at once",
    modality="pairs",
    inputs=("pixels", "paths", "strings"),
    outputs=("vectors",),
    needs_fit=True,
    year=ACLN.year,
    citation=ACLN.citation,
    weights="AlexNet, by torchvision's name (downloaded on first use) or from a local file",
    test_params={
        "acln": {"width": 16, "max_epochs": 2, "device": "cpu"},
        "random_state": 0,
    },
    make_inputs="crossfit_acln.testing:make_inputs",
)


def _experiment(
    name: str, summary: str, dataset: str, methods: tuple[str, ...] = ("acln",)
) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_acln:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=ACLN.citation,
    )


_COMPARED = ("acln", "crossfit-correlation:deep-sm", "lgcfl", "jrl", "kcca", "cfa",
             "crossfit-correlation:corr-ae", "cca")  # fmt: skip
WIKIPEDIA = _experiment(
    "huang-2017-acln-wikipedia",
    "ACLN, its ablations and its rivals on Wikipedia, published",
    "wikipedia",
    _COMPARED,
)
NUS_WIDE_10K = _experiment(
    "huang-2017-acln-nus-wide-10k",
    "ACLN, its ablations and its rivals on NUS-WIDE-10k, published",
    "nus-wide-10k",
    _COMPARED,
)
EMOJI = _experiment(
    "huang-2017-acln-emoji-reduced",
    "ACLN and its ablations on the emoji set, reduced",
    "emoji",
    ("acln", "cca", "sm"),
)
