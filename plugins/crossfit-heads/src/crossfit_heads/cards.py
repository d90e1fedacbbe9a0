"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, ExperimentCard, Float, Int, MethodCard

_CITE_CLIP = """@inproceedings{radford2021clip,
  author    = {Alec Radford and Jong Wook Kim and Chris Hallacy and Aditya Ramesh and
               Gabriel Goh and Sandhini Agarwal and Girish Sastry and Amanda Askell and
               Pamela Mishkin and Jack Clark and Gretchen Krueger and Ilya Sutskever},
  title     = {Learning Transferable Visual Models From Natural Language Supervision},
  booktitle = {Proceedings of the 38th International Conference on Machine Learning},
  pages     = {8748--8763},
  year      = {2021}
}"""

CONTRASTIVE_HEAD = MethodCard(
    api=1,
    name="contrastive-head",
    target="crossfit_heads.contrastive:ContrastiveHead",
    summary="Heads on frozen features: InfoNCE, sigmoid, hardest negatives, VICReg, Barlow Twins",
    extra_views=True,
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2021,
    citation=_CITE_CLIP,
    search_space={
        "loss": Choice("infonce", "sigmoid", "hardest", "vicreg", "barlow"),
        "branch": Choice("linear", "mlp", "gated"),
        "init": Choice("random", "cca"),
        "lr": Float(1e-4, 1e-2, log=True),
        "dropout": Float(0.0, 0.6),
        "weight_decay": Float(1e-3, 1.0, log=True),
    },
    test_params={"width": 16, "max_epochs": 10, "lr": 1e-2, "batch_size": 64, "device": "cpu"},
    make_inputs="crossfit_heads.testing:make_inputs",
)

MAXSIM = MethodCard(
    api=1,
    name="maxsim",
    target="crossfit_heads.maxsim:MaxSim",
    summary="Every word takes the nearest region, in one space or that of a CCA; no network",
    inputs={"image": ("regions",), "text": ("sequence",)},
    labels="none",
    kind="pair",
    year=2020,
    citation="""@inproceedings{khattab2020colbert,
  author    = {Omar Khattab and Matei Zaharia},
  title     = {{ColBERT}: Efficient and Effective Passage Search via Contextualized Late Interaction
               over {BERT}},
  booktitle = {Proceedings of the 43rd International ACM SIGIR Conference on Research and
               Development in Information Retrieval},
  pages     = {39--48},
  year      = {2020}
}""",
    search_space={
        "n_components": Choice(32, 64, 128),
        "reg": Float(0.03, 30.0, log=True),
        "power": Float(0.0, 4.0),
        "normalize": Choice(True, False),
    },
    make_inputs="crossfit_heads.testing:make_sets",
)

PCMEPP = MethodCard(
    api=1,
    name="pcmepp",
    target="crossfit_heads.pcmepp:PCMEpp",
    summary="PCME++: normal distributions on frozen features, matched by their distance",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2024,
    citation="""@inproceedings{chun2024pcmepp,
  author    = {Sanghyuk Chun},
  title     = {Improved Probabilistic Image-Text Representations},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}""",
    search_space={
        "lr": Float(1e-4, 1e-2, log=True),
        "width": Choice(128, 256, 512),
        "branch": Choice("linear", "mlp", "gated"),
        "dropout": Float(0.0, 0.5),
        "pseudo_weight": Choice(0.0, 0.1),
        "vib_weight": Float(1e-5, 1e-2, log=True),
        "mixup": Choice(0.0, 0.25),
        "max_epochs": Int(5, 60, log=True),
    },
    test_params={
        "width": 16,
        "max_epochs": 20,
        "batch_size": 32,
        "lr": 1e-2,
        "device": "cpu",
    },
    make_inputs="crossfit_heads.testing:make_inputs",
)

_CITE_SCAN = """@inproceedings{lee2018scan,
  author    = {Kuang-Huei Lee and Xi Chen and Gang Hua and Houdong Hu and Xiaodong He},
  title     = {Stacked Cross Attention for Image-Text Matching},
  booktitle = {Proceedings of the European Conference on Computer Vision (ECCV)},
  pages     = {201--216},
  year      = {2018}
}"""

SCAN = MethodCard(
    api=1,
    name="scan",
    target="crossfit_heads.scan:SCAN",
    summary="Words attend to regions, or regions to words; cosines with what they attend to",
    inputs={"image": ("regions",), "text": ("strings", "tokens", "sequence")},
    labels="none",
    kind="pair",
    year=2018,
    citation=_CITE_SCAN,
    search_space={
        "attention": Choice("t2i", "i2t"),
        "pooling": Choice("mean", "lse"),
        "lambda_softmax": Float(3.0, 20.0, log=True),
        "lr": Float(1e-4, 3e-3, log=True),
        "width": Choice(64, 128, 256),
        "dropout": Choice(0.0, 0.2, 0.4),
        "gru": Choice(True, False),
        "max_epochs": Int(6, 20),
    },
    test_params={
        "width": 16,
        "word_width": 16,
        "max_epochs": 8,
        "lr": 0.02,
        "batch_size": 20,
        "dropout": 0.0,
        "device": "cpu",
    },
    make_inputs="crossfit_heads.testing:make_sets",
)

_CITE_VSE_INFINITY = """@inproceedings{chen2021vseinfinity,
  author    = {Jiacheng Chen and Hexiang Hu and Hao Wu and Yuning Jiang and Changhu Wang},
  title     = {Learning the Best Pooling Strategy for Visual Semantic Embedding},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition
               (CVPR)},
  pages     = {15789--15798},
  year      = {2021}
}"""

VSE_INFINITY = MethodCard(
    api=1,
    name="vse-infinity",
    target="crossfit_heads.vse_infinity:VSEInfinity",
    summary="Sets of regions and words become vectors by learnt weights of their sorted values",
    inputs={"image": ("regions",), "text": ("strings", "tokens", "sequence")},
    labels="none",
    kind="embedding",
    year=2021,
    citation=_CITE_VSE_INFINITY,
    search_space={
        "lr": Float(1e-4, 3e-3, log=True),
        "width": Choice(64, 128, 256),
        "dropout": Choice(0.0, 0.2, 0.4),
        "drop": Choice(0.0, 0.2),
        "gru": Choice(True, False),
        "pooling": Choice("gpo", "mean", "max"),
        "max_epochs": Int(6, 20),
    },
    test_params={
        "width": 16,
        "word_width": 16,
        "max_epochs": 8,
        "lr": 0.03,
        "batch_size": 20,
        "dropout": 0.0,
        "device": "cpu",
    },
    make_inputs="crossfit_heads.testing:make_sets",
)


def _comparison(dataset: str, where: str) -> ExperimentCard:
    """Return the card of a comparison of heads, and networks that rank, on one data set."""
    name = f"heads-{dataset}-reduced"
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_heads:experiments/{name}.yaml",
        summary=f"Reduced: heads on frozen features and networks that rank on {where}, and CCA",
        datasets=(dataset,),
        methods=_COMPARED,
    )


_RANKING = (
    "devise", "dspe", "dual-path", "rrf-net", "two-way-net", "vse", "vsepp", "wsabie",
)  # fmt: skip
_COMPARED = (
    "cca",
    "contrastive-head",
    "pcmepp",
    *(f"crossfit-ranking:{name}" for name in _RANKING),
)
HEADS_EMOJI = _comparison("emoji", "emoji")
HEADS_ESC10 = _comparison("esc10", "sounds")
HEADS_FLICKR8K = _comparison("flickr8k", "Flickr8k")

SCAN_FLICKR30K = ExperimentCard(
    api=1,
    name="lee-2018-scan-flickr30k",
    target="crossfit_heads:experiments/lee-2018-scan-flickr30k.yaml",
    summary="Published settings: SCAN in both directions on regions and words of Flickr30K",
    datasets=("flickr30k",),
    methods=("scan",),
    citation=_CITE_SCAN,
    year=2018,
)
VSE_INFINITY_FLICKR30K = ExperimentCard(
    api=1,
    name="chen-2021-vse-infinity-flickr30k",
    target="crossfit_heads:experiments/chen-2021-vse-infinity-flickr30k.yaml",
    summary="Published settings and figures: VSE∞ on regions and words of Flickr30K",
    datasets=("flickr30k",),
    methods=("vse-infinity",),
    citation=_CITE_VSE_INFINITY,
    year=2021,
)
LATE_FLICKR8K = ExperimentCard(
    api=1,
    name="late-flickr8k-reduced",
    target="crossfit_heads:experiments/late-flickr8k-reduced.yaml",
    summary="Reduced: MaxSim, SCAN and VSE∞ on regions and words of Flickr8k, and CCA",
    datasets=("flickr8k",),
    methods=("cca", "maxsim", "scan", "vse-infinity"),
)


def _hubs(dataset: str, summary: str, *methods: str) -> ExperimentCard:
    """Return the card of an experiment on hub correction."""
    return ExperimentCard(
        api=1,
        name=f"hubs-{dataset}",
        target=f"crossfit_heads:experiments/hubs-{dataset}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
    )


HUBS_EMOJI = _hubs(
    "emoji", "CCA and a ridge map with and without hub correction on emoji", "cca", "ridge-map"
)
HUBS_ESC10 = _hubs(
    "esc10", "CCA and a ridge map with and without hub correction on sounds", "cca", "ridge-map"
)
HUBS_FLICKR8K = _hubs(
    "flickr8k",
    "Plain maps and a head with and without hub correction on Flickr8k",
    "cca", "csa", "kcca", "procrustes", "ridge-map", "reduced-rank", "asif", "contrastive-head",
)  # fmt: skip
HUBS_WIKIPEDIA = _hubs(
    "wikipedia", "Linear maps with and without hub correction on Wikipedia", "cca", "cca-3v", "scm"
)
FUSION_FLICKR8K = ExperimentCard(
    api=1,
    name="fusion-flickr8k",
    target="crossfit_heads:experiments/fusion-flickr8k.yaml",
    summary="Fusions of CCA and a head with and without hub correction on Flickr8k",
    datasets=("flickr8k",),
    methods=("fusion",),
)
