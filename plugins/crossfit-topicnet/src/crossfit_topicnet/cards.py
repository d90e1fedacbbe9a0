"""Cards of the methods, a data set and the experiments."""

from __future__ import annotations

from crossfit.cards import Choice, DatasetCard, ExperimentCard, Float, Int, MethodCard

_SEARCH_SPACE: dict[str, Choice | Float | Int] = {
    "lr": Float(1e-3, 0.1, log=True),
    "hidden": Choice((), (256,), (512,), (1024,)),
    "dropout": Float(0.0, 0.7),
    "weight_decay": Float(1e-6, 1e-2, log=True),
    "max_epochs": Int(5, 40),
}

_TEST_PARAMS = {
    "hidden": (32,),
    "dropout": 0.1,
    "lr": 0.03,
    "batch_size": 16,
    "max_epochs": 15,
    "device": "cpu",
}

TEXTTOPICNET = MethodCard(
    api=1,
    name="texttopicnet",
    target="crossfit_topicnet.estimator:TextTopicNet",
    summary="A network for images learns the LDA topics of their texts; KL divergence ranks",
    roles=("image", "text"),
    inputs={"image": ("vectors", "pixels"), "text": ("vectors", "strings")},
    labels="none",
    kind="embedding",
    year=2017,
    citation="""@inproceedings{gomez2017texttopicnet,
  author    = {Lluis Gomez and Yash Patel and Mar{\\c{c}}al Rusi{\\~n}ol and Dimosthenis Karatzas
               and C. V. Jawahar},
  title     = {Self-Supervised Learning of Visual Features through Embedding Images into Text
               Topic Spaces},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  year      = {2017}
}""",
    search_space=_SEARCH_SPACE,
    test_params=_TEST_PARAMS,
    make_inputs="crossfit_topicnet.testing:make_inputs",
)

SSVR = MethodCard(
    api=1,
    name="ssvr",
    target="crossfit_topicnet.estimator:SSVR",
    summary="TextTopicNet with two heads: topics of the article and of the caption",
    roles=("image", "text"),
    inputs={"image": ("vectors", "pixels"), "text": ("vectors", "strings", "channels")},
    labels="none",
    kind="embedding",
    year=2019,
    citation="""@inproceedings{patel2019ssvr,
  author    = {Yash Patel and Lluis Gomez and Mar{\\c{c}}al Rusi{\\~n}ol and Dimosthenis Karatzas
               and C. V. Jawahar},
  title     = {Self-Supervised Visual Representations for Cross-Modal Retrieval},
  booktitle = {International Conference on Multimedia Retrieval (ICMR '19)},
  year      = {2019},
  doi       = {10.1145/3323873.3325035}
}""",
    search_space=_SEARCH_SPACE,
    test_params=_TEST_PARAMS,
    make_inputs="crossfit_topicnet.testing:make_two_texts",
)

FLICKR8K_TWO_TEXTS = DatasetCard(
    api=1,
    name="flickr8k-two-texts",
    target="crossfit_topicnet.datasets:load_flickr8k",
    summary="Flickr8k with two texts per row: a caption, and the image's captions joined",
    licence="of Flickr8k: for research and education, the photographs belong to their authors",
    citation="""@article{hodosh2013framing,
  author  = {Micah Hodosh and Peter Young and Julia Hockenmaier},
  title   = {Framing Image Description as a Ranking Task: Data, Models and Evaluation Metrics},
  journal = {Journal of Artificial Intelligence Research},
  volume  = {47},
  pages   = {853--899},
  year    = {2013}
}""",
    year=2013,
    url="https://hockenmaier.cs.illinois.edu/8k-pictures.html",
    counts={"train": 6000, "dev": 1000, "test": 1000},
)


def _experiment(
    name: str, dataset: str, summary: str, methods: tuple[str, ...] = ("ssvr", "texttopicnet")
) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_topicnet:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
    )


WIKIPEDIA = _experiment(
    "patel-2019-ssvr-wikipedia",
    "wikipedia",
    "SSVR, TextTopicNet and the methods compared on Wikipedia, on the set's own texts",
    ("ssvr", "texttopicnet", "cca", "pls", "scm", "gmmfa", "cca-3v", "gmlda", "lcfs"),
)
PASCAL_SENTENCES = _experiment(
    "patel-2019-ssvr-pascal-sentences",
    "pascal-sentences",
    "SSVR, TextTopicNet and the methods compared on Pascal Sentences, on the set's own texts",
    (
        "ssvr",
        "texttopicnet",
        "cca",
        "cfa",
        "kcca",
        "crossfit-correlation:corr-ae",
        "crossfit-correlation:multimodal-dbn",
        "crossfit-correlation:bimodal-ae",
        "jrl",
        "crossfit-correlation:cmdn",
    ),
)
GOMEZ_WIKIPEDIA = _experiment(
    "gomez-2017-texttopicnet-wikipedia",
    "wikipedia",
    "TextTopicNet on Wikipedia, published settings on the set's own texts",
    ("texttopicnet",),
)
FLICKR8K = _experiment(
    "patel-2019-ssvr-flickr8k-reduced",
    "flickr8k-two-texts",
    "SSVR and one head on single captions of Flickr8k, with CCA, reduced",
    ("cca", "ssvr", "texttopicnet"),
)
FLICKR8K_ARTICLES = _experiment(
    "patel-2019-ssvr-flickr8k-articles-reduced",
    "flickr8k-two-texts",
    "SSVR and one head on articles of Flickr8k, with CCA, reduced",
    ("cca", "ssvr", "texttopicnet"),
)
