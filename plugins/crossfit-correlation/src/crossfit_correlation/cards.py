"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, Each, ExperimentCard, Float, Int, MethodCard

_Space = dict[str, Float | Int | Choice | Each]

_CITE_BIMODAL_AE = """@inproceedings{ngiam2011multimodal,
  author    = {Jiquan Ngiam and Aditya Khosla and Mingyu Kim and Juhan Nam and Honglak Lee and
               Andrew Y. Ng},
  title     = {Multimodal Deep Learning},
  booktitle = {Proceedings of the 28th International Conference on Machine Learning},
  pages     = {689--696},
  year      = {2011}
}"""

BIMODAL_AE = MethodCard(
    api=1,
    name="bimodal-ae",
    target="crossfit_correlation.bimodal_ae:BimodalAE",
    summary="One code, from either view or both, that reconstructs both",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2011,
    citation=_CITE_BIMODAL_AE,
    search_space={
        "lr": Float(1e-4, 1e-2, log=True),
        "width": Choice(64, 128, 256, 512),
        "activation": Choice("tanh", "sigmoid"),
    },
    test_params={"width": 8, "max_epochs": 40, "lr": 1e-2, "batch_size": 32, "device": "cpu"},
    make_inputs="crossfit_correlation.testing:make_inputs",
)

_CITE_CORR_AE = """@inproceedings{feng2014corrae,
  author    = {Fangxiang Feng and Xiaojie Wang and Ruifan Li},
  title     = {Cross-modal Retrieval with Correspondence Autoencoder},
  booktitle = {Proceedings of the 22nd ACM International Conference on Multimedia},
  pages     = {7--16},
  year      = {2014}
}"""

_CITE_CMDN = """@inproceedings{peng2016cmdn,
  author    = {Yuxin Peng and Xin Huang and Jinwei Qi},
  title     = {Cross-media Shared Representation by Hierarchical Learning with Multiple Deep
               Networks},
  booktitle = {Proceedings of the Twenty-Fifth International Joint Conference on Artificial
               Intelligence (IJCAI-16)},
  pages     = {3846--3853},
  year      = {2016}
}"""
_CITE_CCL = """@article{peng2018ccl,
  author  = {Yuxin Peng and Jinwei Qi and Xin Huang and Yuxin Yuan},
  title   = {{CCL}: Cross-modal Correlation Learning with Multigrained Fusion by Hierarchical
             Network},
  journal = {IEEE Transactions on Multimedia},
  volume  = {20},
  number  = {2},
  pages   = {405--420},
  year    = {2018}
}"""


def _corr_ae(name: str, target: str, summary: str) -> MethodCard:
    return MethodCard(
        api=1,
        name=name,
        target=f"crossfit_correlation.corr_ae:{target}",
        summary=summary,
        inputs={"image": ("vectors",), "text": ("vectors",)},
        labels="none",
        kind="embedding",
        year=2014,
        citation=_CITE_CORR_AE,
        search_space={
            "lr": Float(3e-4, 1e-2, log=True),
            "alpha": Float(0.1, 0.95),
            "width": Choice(16, 32, 64, 128, 256),
            "activation": Choice("sigmoid", "tanh"),
            "max_epochs": Int(10, 100, log=True),
        },
        test_params={
            "width": 16,
            "max_epochs": 30,
            "lr": 1e-2,
            "batch_size": 32,
            "device": "cpu",
        },
        make_inputs="crossfit_correlation.testing:make_inputs",
    )


CCL = MethodCard(
    api=1,
    name="ccl",
    target="crossfit_correlation.ccl:CCL",
    summary="Correspondence autoencoders of items and of their patches, fused, then a common space",
    inputs={"image": ("vectors", "channels"), "text": ("vectors", "channels")},
    labels="optional",
    kind="embedding",
    year=2018,
    citation=_CITE_CCL,
    search_space={
        "lr": Float(1e-4, 1e-2, log=True),
        "alpha": Float(0.3, 0.95),
        "width": Choice(32, 64, 128, 256),
        "margin": Float(0.3, 3.0, log=True),
        "max_epochs": Int(20, 100, log=True),
    },
    test_params={
        "dbn": (16,),
        "code": 16,
        "fused": 16,
        "hidden": (14,),
        "width": 16,
        "max_epochs": 15,
        "lr": 1e-2,
        "batch_size": 32,
        "stages": {
            "dbn": {"max_epochs": 5, "lr": 0.05},
            "corr": {"max_epochs": 10, "lr": 1e-2},
            "fusion": {"max_epochs": 5, "lr": 0.05},
            "classifier": {"max_epochs": 5, "lr": 1e-2},
        },
        "device": "cpu",
    },
    make_inputs="crossfit_correlation.testing:make_patches",
)
CMDN = MethodCard(
    api=1,
    name="cmdn",
    target="crossfit_correlation.cmdn:CMDN",
    summary="Autoencoders and belief networks, fused, classified, then bimodal autoencoders",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="single",
    kind="embedding",
    year=2016,
    citation=_CITE_CMDN,
    search_space={
        "lr": Float(1e-4, 1e-2, log=True),
        "fused": Choice(64, 128, 256),
        "max_epochs": Int(20, 100, log=True),
    },
    test_params={
        "sae": (16,),
        "dbn": (15,),
        "dbn_width": 16,
        "fused": 16,
        "hidden": (14,),
        "codes": (16, 12),
        "max_epochs": 15,
        "lr": 1e-2,
        "batch_size": 32,
        "stages": {
            "sae": {"max_epochs": 5, "lr": 1e-2},
            "dbn": {"max_epochs": 5, "lr": 0.05},
            "fusion": {"max_epochs": 5, "lr": 0.05},
            "classifier": {"max_epochs": 10, "lr": 1e-2},
            "bae": {"max_epochs": 15, "lr": 1e-2},
        },
        "device": "cpu",
    },
    make_inputs="crossfit_correlation.testing:make_inputs",
)
CORR_AE = _corr_ae(
    "corr-ae", "CorrAE", "Two autoencoders whose codes are drawn together for matched pairs"
)
CROSS_AE = _corr_ae(
    "cross-ae", "CrossAE", "Two autoencoders that reconstruct the other view, with close codes"
)
FULL_AE = _corr_ae(
    "full-ae", "FullAE", "Two autoencoders that reconstruct both views, with close codes"
)

_CITE_DCCA = """@inproceedings{andrew2013dcca,
  author    = {Galen Andrew and Raman Arora and Jeff Bilmes and Karen Livescu},
  title     = {Deep Canonical Correlation Analysis},
  booktitle = {Proceedings of the 30th International Conference on Machine Learning},
  pages     = {1247--1255},
  year      = {2013}
}"""
_CITE_DCCAE = """@inproceedings{wang2015dccae,
  author    = {Weiran Wang and Raman Arora and Karen Livescu and Jeff Bilmes},
  title     = {On Deep Multi-View Representation Learning},
  booktitle = {Proceedings of the 32nd International Conference on Machine Learning},
  pages     = {1083--1092},
  year      = {2015}
}"""
_CITE_DGCCA = """@article{benton2017dgcca,
  author  = {Adrian Benton and Huda Khayrallah and Biman Gujral and Dee Ann Reisinger and
             Sheng Zhang and Raman Arora},
  title   = {Deep Generalized Canonical Correlation Analysis},
  journal = {arXiv:1702.02519},
  year    = {2017}
}"""
_CITE_YAN = """@inproceedings{yan2015dcca,
  author    = {Fei Yan and Krystian Mikolajczyk},
  title     = {Deep Correlation for Matching Images and Text},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition},
  pages     = {3441--3450},
  year      = {2015}
}"""
_CITE_YU = """@misc{yu2017dcca,
  author = {Yi Yu and Suhua Tang and Francisco Raposo and Lei Chen},
  title  = {Deep Cross-Modal Correlation Learning for Audio and Lyrics in Music Retrieval},
  note   = {arXiv:1711.08976},
  year   = {2017}
}"""

_CCA_SPACE: _Space = {
    "width": Choice(10, 20, 50),
    "hidden": Choice(128, 256, 512),
    "dropout": Choice(0.0, 0.2, 0.5),
    "lr": Float(1e-4, 1e-2, log=True),
    "max_epochs": Int(10, 100, log=True),
    "weight_decay": Float(1e-6, 1e-2, log=True),
    "cca_reg": Float(1e-3, 10.0, log=True),
    "cca_power": Choice(0.0, 1.0, 4.0),
}
_CCA_SMALL = {"hidden": 32, "width": 4, "max_epochs": 20, "lr": 5e-3, "device": "cpu"}

DCCA = MethodCard(
    api=1,
    name="dcca",
    target="crossfit_correlation.dcca:DCCA",
    summary="Networks that maximise the canonical correlations of their outputs, then CCA",
    extra_views=True,
    inputs={"image": ("vectors", "sequence"), "text": ("vectors", "sequence")},
    year=2013,
    citation=_CITE_DCCA,
    search_space=_CCA_SPACE,
    test_params=_CCA_SMALL,
    make_inputs="crossfit_correlation.testing:make_inputs",
)
DCCAE = MethodCard(
    api=1,
    name="dccae",
    target="crossfit_correlation.dccae:DCCAE",
    summary="DCCA whose outputs also reconstruct their own views",
    extra_views=True,
    inputs={"image": ("vectors", "sequence"), "text": ("vectors", "sequence")},
    year=2015,
    citation=_CITE_DCCAE,
    search_space={**_CCA_SPACE, "reconstruction": Float(1e-4, 1.0, log=True)},
    test_params=_CCA_SMALL,
    make_inputs="crossfit_correlation.testing:make_inputs",
)
DGCCA = MethodCard(
    api=1,
    name="dgcca",
    target="crossfit_correlation.dgcca:DGCCA",
    summary="Networks whose outputs approximate one shared representation of all views",
    extra_views=True,
    inputs={"image": ("vectors", "sequence"), "text": ("vectors", "sequence")},
    year=2017,
    citation=_CITE_DGCCA,
    search_space=_CCA_SPACE,
    test_params=_CCA_SMALL,
    make_inputs="crossfit_correlation.testing:make_inputs",
)

_CITE_MULTIMODAL_DBN = """@inproceedings{srivastava2012multimodal,
  author    = {Nitish Srivastava and Ruslan Salakhutdinov},
  title     = {Learning Representations for Multimodal Data with Deep Belief Nets},
  booktitle = {ICML Representation Learning Workshop},
  year      = {2012}
}"""

MULTIMODAL_DBN = MethodCard(
    api=1,
    name="multimodal-dbn",
    target="crossfit_correlation.multimodal_dbn:MultimodalDBN",
    summary="Boltzmann machines per view with a joint one on top, which infers a missing view",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2012,
    citation=_CITE_MULTIMODAL_DBN,
    search_space={
        "lr": Float(1e-2, 2e-1, log=True),
        "width": Choice(64, 128, 256, 512),
        "max_epochs": Int(15, 150, log=True),
        "l2": Float(1e-5, 1e-2, log=True),
    },
    test_params={
        "hidden": (32,),
        "width": 32,
        "max_epochs": 40,
        "batch_size": 20,
        "device": "cpu",
    },
    make_inputs="crossfit_correlation.testing:make_inputs",
)


def _music(name: str, dataset: str, summary: str) -> ExperimentCard:
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_correlation:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=("cca", "crossfit-alcca:alcca", "dcca"),
        citation=_CITE_YU,
        year=2017,
    )


DCCA_ESC10_REDUCED = _music(
    "yu-2017-dcca-esc10-reduced", "esc10",
    "Reduced: DCCA of sounds and titles, with convolutions or on log-mel features",
)  # fmt: skip
DCCA_MUSIC = _music(
    "yu-2017-dcca-music", "music",
    "Published figures: DCCA of songs and lyrics by pair, 10 to 100 components",
)  # fmt: skip
DCCA_MUSIC_MOODS = _music(
    "yu-2017-dcca-music-moods", "music",
    "Published figures: DCCA of songs and lyrics by mood, 10 to 100 components",
)  # fmt: skip
DCCA_FLICKR30K = ExperimentCard(
    api=1,
    name="yan-2015-dcca-flickr30k",
    target="crossfit_correlation:experiments/yan-2015-dcca-flickr30k.yaml",
    summary="Published figures: DCCA of pictures and captions of Flickr30K",
    datasets=("flickr30k",),
    methods=("cca", "dcca", "dccae"),
    citation=_CITE_YAN,
    year=2015,
)

_CITE_DEEP_SM = """@article{wei2017deepsm,
  author  = {Yunchao Wei and Yao Zhao and Canyi Lu and Shikui Wei and Luoqi Liu and Zhenfeng Zhu and
             Shuicheng Yan},
  title   = {Cross-Modal Retrieval With {CNN} Visual Features: A New Baseline},
  journal = {IEEE Transactions on Cybernetics},
  volume  = {47},
  number  = {2},
  pages   = {449--460},
  year    = {2017}
}"""

DEEP_SM = MethodCard(
    api=1,
    name="deep-sm",
    target="crossfit_correlation.deep_sm:DeepSM",
    summary="Semantic matching with a fine-tuned AlexNet, or a network for vectors, per view",
    inputs={"image": ("vectors", "pixels"), "text": ("vectors",)},
    labels="single",
    kind="embedding",
    year=2017,
    citation=_CITE_DEEP_SM,
    search_space={
        "hidden": Choice((), (512,), (1024,), (1024, 1024)),
        "dropout": Float(0.0, 0.7),
        "lr": Float(1e-3, 0.1, log=True),
        "weight_decay": Float(1e-5, 1e-1, log=True),
        "measure": Choice("cosine", "correlation", "l1", "kl", "posterior_over_prior"),
        "max_epochs": Int(10, 100, log=True),
    },
    test_params={"hidden": (32,), "max_epochs": 20, "dropout": 0.2, "device": "cpu"},
    make_inputs="crossfit_correlation.testing:make_inputs",
)
BIMODAL_AE_FLICKR30K = ExperimentCard(
    api=1,
    name="ngiam-2011-bimodal-ae-flickr30k",
    target="crossfit_correlation:experiments/ngiam-2011-bimodal-ae-flickr30k.yaml",
    summary="Published figures: the bimodal autoencoder on pictures and captions of Flickr30K",
    datasets=("flickr30k",),
    methods=("bimodal-ae", "cca"),
    citation=_CITE_BIMODAL_AE,
    year=2011,
)
MULTIMODAL_DBN_FLICKR30K = ExperimentCard(
    api=1,
    name="srivastava-2012-multimodal-dbn-flickr30k",
    target="crossfit_correlation:experiments/srivastava-2012-multimodal-dbn-flickr30k.yaml",
    summary="Published settings: the multimodal deep belief network on Flickr30K",
    datasets=("flickr30k",),
    methods=("cca", "multimodal-dbn"),
    citation=_CITE_MULTIMODAL_DBN,
    year=2012,
)


def _published(
    name: str, dataset: str, methods: tuple[str, ...], summary: str, citation: str, year: int
) -> ExperimentCard:
    """Return the card of an experiment with published settings or figures."""
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_correlation:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=citation,
        year=year,
    )


_CORR_AES = ("cca", "corr-ae", "cross-ae", "full-ae")
CORR_AE_WIKIPEDIA = _published(
    "feng-2014-corr-ae-wikipedia", "wikipedia", _CORR_AES,
    "Published settings: Corr-AE, Cross-AE and Full-AE on Wikipedia", _CITE_CORR_AE, 2014,
)  # fmt: skip
CORR_AE_PASCAL = _published(
    "feng-2014-corr-ae-pascal-sentences", "pascal-sentences", _CORR_AES,
    "Published settings: Corr-AE, Cross-AE and Full-AE on Pascal Sentences", _CITE_CORR_AE, 2014,
)  # fmt: skip
CMDN_WIKIPEDIA = _published(
    "peng-2016-cmdn-wikipedia", "wikipedia", ("cmdn",),
    "Published settings: CMDN on Wikipedia", _CITE_CMDN, 2016,
)  # fmt: skip
CCL_PASCAL = _published(
    "peng-2018-ccl-pascal-sentences", "pascal-sentences", ("ccl", "cmdn", "corr-ae"),
    "Published settings: CCL, CMDN and Corr-AE on Pascal Sentences", _CITE_CCL, 2018,
)  # fmt: skip
CCL_FLICKR30K = _published(
    "peng-2018-ccl-flickr30k", "flickr30k", ("ccl", "corr-ae"),
    "Published figures: CCL and Corr-AE on Flickr30K", _CITE_CCL, 2018,
)  # fmt: skip


def _comparison(dataset: str, *methods: str) -> ExperimentCard:
    """Return the card of a comparison of the methods of this plugin on one data set."""
    name = f"correlation-{dataset}-reduced"
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_correlation:experiments/{name}.yaml",
        summary=f"Reduced: networks that correlate and reconstruct on {dataset}, and CCA",
        datasets=(dataset,),
        methods=tuple(sorted((*_COMPARED, *methods))),
    )


_COMPARED = (
    "bimodal-ae", "cca", "ccl", "corr-ae", "cross-ae", "dcca", "dccae", "dgcca", "full-ae", "kcca",
    "multimodal-dbn",
)  # fmt: skip
CORRELATION_EMOJI = _comparison("emoji", "cmdn", "deep-sm", "s2upg", "sm")
CORRELATION_FLICKR8K = _comparison("flickr8k", "gmm-hglmm-cca", "hglmm-cca")
CORRELATION_WIKIPEDIA = _comparison("wikipedia", "cmdn", "deep-sm", "s2upg", "sm")
