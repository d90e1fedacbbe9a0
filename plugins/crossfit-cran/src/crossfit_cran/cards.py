"""Cards of the method and its experiments."""

from __future__ import annotations

from crossfit.cards import Choice, ExperimentCard, Float, Int, MethodCard

CRAN = MethodCard(
    api=1,
    name="cran",
    target="crossfit_cran.estimator:CRAN",
    summary="Dot products of images and texts, of regions, and of relations between regions",
    roles=("image", "text"),
    # The paper reads characters; sequences are word vectors in their place.
    inputs={"image": ("channels",), "text": ("strings", "tokens", "sequence")},
    labels="none",
    kind="pair",
    year=2018,
    citation="""@inproceedings{qi2018cran,
  author    = {Jinwei Qi and Yuxin Peng and Yuxin Yuan},
  title     = {Cross-media Multi-level Alignment with Relation Attention Network},
  booktitle = {Proceedings of the Twenty-Seventh International Joint Conference on
               Artificial Intelligence (IJCAI-18)},
  pages     = {892--898},
  year      = {2018},
  doi       = {10.24963/ijcai.2018/124}
}""",
    search_space={
        "lr": Float(3e-4, 3e-3, log=True),
        "mining": Choice("all", "top-k", "hardest"),
        "margin": Float(0.1, 0.5),
        "k": Int(1, 5),
        "dropout": Float(0.0, 0.5),
        "bidirectional_local": Choice(False, True),
        "mask_padding": Choice(False, True),
        "max_epochs": Int(8, 60, log=True),
    },
    test_params={
        "channels": (24, 16),
        "lstm_width": 16,
        "width": 16,
        "length": 24,
        "n_regions": 3,
        "k": 2,
        "mining": "sum",
        "max_epochs": 20,
        "lr": 2e-2,
        "batch_size": 80,
        "optimizer": "Adam",
        "device": "cpu",
    },
    make_inputs="crossfit_cran.testing:make_inputs",
)


def _experiment(
    name: str, summary: str, dataset: str, methods: tuple[str, ...] = ("cran",)
) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_cran:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=CRAN.citation,
    )


_COMPARED = (
    "cran",
    *map("crossfit-correlation:{}".format,
         ("ccl", "dcca", "corr-ae", "multimodal-dbn", "bimodal-ae")),
    "gmm-hglmm-cca", "macc", "kcca", "cfa", "cca",
)  # fmt: skip
FLICKR30K = _experiment(
    "qi-2018-cran-flickr30k",
    "CRAN, its ablations and the methods compared on Flickr30K, published",
    "flickr30k",
    _COMPARED,
)
COCO = _experiment(
    "qi-2018-cran-coco",
    "CRAN, its ablations and the methods compared on MS-COCO, published",
    "coco",
    _COMPARED,
)
FLICKR8K = _experiment(
    "qi-2018-cran-flickr8k-reduced",
    "CRAN and its ablations on Flickr8k, with word vectors and with CCA, reduced",
    "flickr8k",
    ("cran", "cca"),
)
FLICKR8K_CHOICE = _experiment(
    "qi-2018-cran-flickr8k-choice-reduced",
    "Which settings the reduced experiment on Flickr8k trains with, and for how long",
    "flickr8k",
)
