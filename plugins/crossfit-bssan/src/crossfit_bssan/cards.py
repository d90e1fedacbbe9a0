"""Cards of the method and its experiments."""

from __future__ import annotations

from crossfit.cards import Choice, ExperimentCard, Float, Int, MethodCard

_CITATION = """@article{huang2019bssan,
  author  = {Feiran Huang and Xiaoming Zhang and Zhonghua Zhao and Zhoujun Li},
  title   = {Bi-Directional Spatial-Semantic Attention Networks for Image-Text Matching},
  journal = {IEEE Transactions on Image Processing},
  volume  = {28},
  number  = {4},
  pages   = {2008--2020},
  year    = {2019},
  doi     = {10.1109/TIP.2018.2882225}
}"""

BSSAN = MethodCard(
    api=1,
    name="bssan",
    target="crossfit_bssan.estimator:BSSAN",
    summary="Words attend to regions and objects to words; an LSTM and perceptrons score pairs",
    roles=("image", "text"),
    inputs={"image": ("channels",), "text": ("sequence",)},
    labels="none",
    kind="pair",
    year=2018,
    citation=_CITATION,
    search_space={
        "mining": Choice("all", "hardest", "top-k"),
        "n_components": Choice(64, 128, 256),
        "dropout": Choice(0.0, 0.15, 0.3),
        "lr": Float(1e-3, 0.02, log=True),
        "o2w_weight": Float(0.2, 2.0, log=True),
        "delta": Float(1e-7, 1e-2, log=True),
        "lstm_width": Choice(64, 128),
        "max_epochs": Int(5, 20),
    },
    test_params={
        "attn_act": None,
        "dropout": 0.0,
        "lr": 0.02,
        "batch_size": 16,
        "max_epochs": 10,
        "lstm_width": 24,
        "w2r_mlp": (16,),
        "bilstm_width": 16,
        "o2w_mlp": (12,),
        "delta": 1e-4,
        "device": "cpu",
    },
    make_inputs="crossfit_bssan.testing:make_inputs",
)


def _experiment(
    name: str, summary: str, dataset: str, methods: tuple[str, ...] = ("bssan",)
) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_bssan:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=_CITATION,
        year=2018,
    )


_COMPARED = (  # on both sets
    "bssan",
    "hglmm-cca",
    "gmm-hglmm-cca",
    "crossfit-ranking:dspe",
    "crossfit-ranking:m-rnn",
    "crossfit-ranking:two-way-net",
)
FLICKR30K = _experiment(
    "huang-2018-bssan-flickr30k",
    "BSSAN, its ablations and the methods compared on Flickr30K, published settings",
    "flickr30k",
    (
        *_COMPARED,
        "crossfit-correlation:dcca",
        "crossfit-ranking:m-cnn",
        "crossfit-ranking:dan",
        "crossfit-ranking:dvsa",
        "crossfit-ranking:rrf-net",
    ),
)
COCO = _experiment(
    "huang-2018-bssan-coco",
    "BSSAN, its ablations and the methods compared on COCO, published settings",
    "coco",
    (*_COMPARED, "crossfit-ranking:dvsa"),
)
FLICKR8K_REDUCED = _experiment(
    "huang-2018-bssan-flickr8k-reduced",
    "BSSAN and its ablations on Flickr8k, reduced widths",
    "flickr8k",
    ("bssan", "cca"),
)
FLICKR8K_CHOICE = _experiment(
    "huang-2018-bssan-flickr8k-choice-reduced",
    "For how many epochs the reduced experiment on Flickr8k trains",
    "flickr8k",
    ("bssan",),
)
