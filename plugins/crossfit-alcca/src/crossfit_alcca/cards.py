"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, Each, ExperimentCard, Float, Int, MethodCard

_CITE_ACMR = """@inproceedings{wang2017acmr,
  author    = {Bokun Wang and Yang Yang and Xing Xu and Alan Hanjalic and Heng Tao Shen},
  title     = {Adversarial Cross-Modal Retrieval},
  booktitle = {Proceedings of the 25th ACM International Conference on Multimedia},
  pages     = {154--162},
  year      = {2017}
}"""
_CITE_ALCCA = """@inproceedings{vuong2019alcca,
  author    = {Thi-Hong Vuong and Thanh-Huyen Pham and Tri-Thanh Nguyen and Quang-Thuy Ha},
  title     = {An Adversarial Learning and Canonical Correlation Analysis Based Cross-Modal
               Retrieval Model},
  booktitle = {Intelligent Information and Database Systems (ACIIDS 2019)},
  year      = {2019}
}"""

_SPACE: dict[str, Float | Int | Choice | Each] = {
    "lr": Float(1e-4, 2e-3, log=True),
    "margin": Float(0.5, 20.0, log=True),
    "alpha": Float(0.01, 10.0, log=True),
    "beta": Float(0.1, 10.0, log=True),
    "adv_weight": Choice(0.0, 0.1, 1.0),
    "negatives": Choice("triplet", None),
    "width": Choice(50, 100, 200),
}
_SMALL = {
    "hidden": 32,
    "width": 16,
    "max_epochs": 10,
    "lr": 1e-2,
    "margin": 5.0,
    "batch_size": 32,
    "device": "cpu",
}

ACMR = MethodCard(
    api=1,
    name="acmr",
    target="crossfit_alcca.estimator:ACMR",
    summary="Projectors trained on labels and triplets against a modality classifier",
    roles=("image", "text"),
    inputs={"image": ("vectors", "sequence"), "text": ("vectors", "sequence")},
    labels="single",
    kind="embedding",
    year=2017,
    citation=_CITE_ACMR,
    search_space=_SPACE,
    test_params=_SMALL,
    make_inputs="crossfit_alcca.testing:make_image_inputs",
)
ALCCA = MethodCard(
    api=1,
    name="alcca",
    target="crossfit_alcca.estimator:ALCCA",
    summary="ACMR of sound and text, then linear CCA of the embeddings",
    roles=("audio", "text"),
    inputs={"audio": ("vectors", "sequence"), "text": ("vectors", "sequence")},
    labels="single",
    kind="embedding",
    year=2019,
    citation=_CITE_ALCCA,
    search_space={
        "n_components": Int(10, 100),
        "cca_reg": Float(1e-3, 1.0, log=True),
        **_SPACE,
    },
    test_params={**_SMALL, "n_components": 8},
    make_inputs="crossfit_alcca.testing:make_inputs",
)


def _experiment(name: str, dataset: str, methods: tuple[str, ...], summary: str) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_alcca:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=_CITE_ACMR if "acmr" in name else _CITE_ALCCA,
        year=2017 if "acmr" in name else 2019,
    )


ALCCA_MUSIC = _experiment(
    "vuong-2019-alcca-music", "music", ("alcca",),
    "Published settings: songs and lyrics by pair, 10 to 100 components",
)  # fmt: skip
ALCCA_MUSIC_MOODS = _experiment(
    "vuong-2019-alcca-music-moods", "music", ("alcca",),
    "Published settings: songs and lyrics by mood, 10 to 100 components",
)  # fmt: skip
ALCCA_ESC10_REDUCED = _experiment(
    "vuong-2019-alcca-esc10-reduced", "esc10", ("alcca", "acmr", "cca"),
    "Reduced: five-second sounds and their titles instead of songs and lyrics",
)  # fmt: skip
ALCCA_ESC10_COMPONENTS = _experiment(
    "vuong-2019-alcca-esc10-components-reduced", "esc10", ("alcca", "cca"),
    "Reduced: ALCCA and CCA with 10 to 100 components on five-second sounds",
)  # fmt: skip
ACMR_WIKIPEDIA = _experiment(
    "wang-2017-acmr-wikipedia", "wikipedia", ("acmr",),
    "Published widths: VGG19 fc7 and bag of words of the Wikipedia set",
)  # fmt: skip
