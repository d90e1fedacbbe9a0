"""Cards of the methods and their experiments."""

from __future__ import annotations

from crossfit.cards import Choice, ExperimentCard, Float, Int, MethodCard

_CITE_DAN = """@inproceedings{nam2017dan,
  author    = {Hyeonseob Nam and Jung-Woo Ha and Jeonghee Kim},
  title     = {Dual Attention Networks for Multimodal Reasoning and Matching},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {299--307},
  year      = {2017}
}"""

DAN = MethodCard(
    api=1,
    name="dan",
    target="crossfit_ranking.dan:DAN",
    summary="Several steps of attention over regions and over words, whose vectors are compared",
    inputs={"image": ("regions",), "text": ("sequence", "tokens", "strings")},
    labels="none",
    kind="embedding",
    year=2017,
    citation=_CITE_DAN,
    search_space={
        "lr": Float(3e-4, 3e-3, log=True),
        "width": Choice(128, 256, 512),
        "n_steps": Choice(1, 2, 3),
        "dropout": Choice(0.0, 0.2, 0.4),
        "margin": Float(0.1, 0.4),
        "mining": Choice("all", "hardest", "top-k"),
        "max_epochs": Int(6, 24),
    },
    test_params={
        "width": 16,
        "dropout": 0.0,
        "lr": 0.01,
        "batch_size": 32,
        "max_epochs": 10,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_regions",
)

_CITE_FROME = """@inproceedings{frome2013devise,
  author    = {Andrea Frome and Greg S. Corrado and Jonathon Shlens and Samy Bengio and Jeffrey Dean
               and Marc'Aurelio Ranzato and Tomas Mikolov},
  title     = {{DeViSE}: A Deep Visual-Semantic Embedding Model},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {26},
  year      = {2013}
}"""

DEVISE = MethodCard(
    api=1,
    name="devise",
    target="crossfit_ranking.devise:DeViSE",
    summary="A linear map from images to fixed text vectors, by the first violating negative",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2013,
    citation=_CITE_FROME,
    search_space={
        "lr": Float(3e-4, 3e-2, log=True),
        "margin": Float(0.03, 0.5, log=True),
        "dropout": Float(0.0, 0.7),
        "max_epochs": Int(8, 40, log=True),
    },
    test_params={"max_epochs": 20, "lr": 2e-2, "lr_step": None, "batch_size": 32, "device": "cpu"},
    make_inputs="crossfit_ranking.testing:make_inputs",
)

_CITE_DVSA = """@inproceedings{karpathy2015dvsa,
  author    = {Andrej Karpathy and Li Fei-Fei},
  title     = {Deep Visual-Semantic Alignments for Generating Image Descriptions},
  booktitle = {IEEE Conference on Computer Vision and Pattern Recognition (CVPR)},
  pages     = {3128--3137},
  year      = {2015}
}"""

DVSA = MethodCard(
    api=1,
    name="dvsa",
    target="crossfit_ranking.dvsa:DVSA",
    # Edges of dependency trees need a parser; windows of words are our reading of them.
    summary="Words, or windows of them (experimental), are matched with their nearest regions",
    inputs={"image": ("regions",), "text": ("sequence", "tokens", "strings")},
    labels="none",
    kind="pair",
    year=2015,
    citation=_CITE_DVSA,
    search_space={
        "lr": Float(5e-4, 1e-2, log=True),
        "width": Choice(128, 256, 512),
        "hidden": Choice(64, 128, 256),
        "fragments": Choice("brnn", "windows"),
        "dropout": Choice(0.0, 0.2, 0.4),
        "margin": Float(0.03, 0.3, log=True),
        "mining": Choice("all", "hardest", "top-k"),
        "max_epochs": Int(6, 24),
    },
    test_params={
        "hidden": 16,
        "width": 32,
        "dropout": 0.0,
        "lr": 0.01,
        "batch_size": 32,
        "max_epochs": 30,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_regions",
)

M_CNN = MethodCard(
    api=1,
    name="m-cnn",
    target="crossfit_ranking.m_cnn:MCNN",
    summary="Convolutions over the words of a sentence and an image, at up to four levels",
    inputs={"image": ("vectors",), "text": ("tokens", "sequence", "strings")},
    labels="none",
    kind="pair",
    year=2015,
    citation="""@inproceedings{ma2015mcnn,
  author    = {Lin Ma and Zhengdong Lu and Lifeng Shang and Hang Li},
  title     = {Multimodal Convolutional Neural Networks for Matching Image and Sentence},
  booktitle = {2015 IEEE International Conference on Computer Vision (ICCV)},
  pages     = {2623--2631},
  year      = {2015}
}""",
    search_space={
        "mining": Choice("all", "hardest", "top-k"),
        "hidden": Choice(64, 128, 256),
        "dropout": Choice(0.1, 0.3, 0.5),
        "lr": Float(3e-4, 5e-3, log=True),
        "max_epochs": Int(5, 30),
    },
    test_params={
        "maps": (24, 24, 24),
        "image_width": 32,
        "hidden": 32,
        "word_width": 8,
        "dropout": 0.0,
        "lr": 5e-3,
        "batch_size": 32,
        "max_epochs": 30,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_sentences",
)

M_RNN = MethodCard(
    api=1,
    name="m-rnn",
    target="crossfit_ranking.m_rnn:MRNN",
    summary="A recurrent captioner that ranks by the probability of a sentence given an image",
    inputs={"image": ("vectors",), "text": ("tokens", "strings")},
    labels="none",
    kind="pair",
    year=2015,
    citation="""@inproceedings{mao2015mrnn,
  author    = {Junhua Mao and Wei Xu and Yi Yang and Jiang Wang and Zhiheng Huang and Alan Yuille},
  title     = {Deep Captioning with Multimodal Recurrent Neural Networks ({m-RNN})},
  booktitle = {International Conference on Learning Representations},
  year      = {2015}
}""",
    search_space={
        "width": Choice(128, 256, 512),
        "dropout": Choice(0.2, 0.4, 0.6),
        "l2": Float(1e-7, 1e-4, log=True),
        "lr": Float(5e-4, 1e-2, log=True),
        "max_epochs": Int(5, 30),
    },
    test_params={
        "embedding_widths": (8, 24),
        "width": 32,
        "dropout": 0.0,
        "n_prior_images": 20,
        "lr": 1e-2,
        "batch_size": 16,
        "max_epochs": 30,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_sentences",
)

DUAL_PATH = MethodCard(
    api=1,
    name="dual-path",
    target="crossfit_ranking.dual_path:DualPath",
    summary="Every image with its captions is a class; then ranking; convolutions over words",
    roles=("image", "text"),
    # The paper reads words; vectors of texts are ours.
    inputs={
        "image": ("vectors", "pixels"),
        "text": ("strings", "tokens", "sequence", "vectors"),
    },
    labels="none",
    kind="embedding",
    year=2017,
    citation="""@article{zheng2020dualpath,
  author  = {Zhedong Zheng and Liang Zheng and Michael Garrett and Yi Yang and Mingliang Xu and
             Yi-Dong Shen},
  title   = {Dual-Path Convolutional Image-Text Embeddings with Instance Loss},
  journal = {ACM Transactions on Multimedia Computing, Communications, and Applications},
  volume  = {16},
  number  = {2},
  year    = {2020},
  note    = {arXiv:1711.05535, 2017}
}""",
    search_space={
        "lr": Float(3e-4, 3e-3, log=True),
        "instance_epochs": Int(5, 40),
        "margin": Float(0.05, 1.0, log=True),
        "mining": Choice("sum", "hardest", "all"),
        "dropout": Float(0.0, 0.75),
        "width": Choice(256, 512, 1024),
        "word_dropout": Float(0.0, 0.3),
    },
    test_params={
        "width": 16,
        "hidden": 32,
        "channels": (24,),
        "blocks": (1,),
        "word_width": 16,
        "min_count": 1,
        "instance_epochs": 10,
        "max_epochs": 20,
        "lr": 1e-2,
        "batch_size": 32,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_inputs",
)
DUAL_PATH_FLICKR30K = ExperimentCard(
    api=1,
    name="zheng-2017-dual-path-flickr30k",
    target="crossfit_ranking:experiments/zheng-2017-dual-path-flickr30k.yaml",
    summary="Dual-path on Flickr30K, published figures",
    datasets=("flickr30k",),
    methods=("dual-path", "cca"),
    citation=DUAL_PATH.citation,
    year=2017,
)

_CITE_KIROS = """@misc{kiros2014unifying,
  author = {Ryan Kiros and Ruslan Salakhutdinov and Richard S. Zemel},
  title  = {Unifying Visual-Semantic Embeddings with Multimodal Neural Language Models},
  note   = {arXiv:1411.2539},
  year   = {2014}
}"""
_CITE_VSEPP = """@inproceedings{faghri2018vsepp,
  author    = {Fartash Faghri and David J. Fleet and Jamie Ryan Kiros and Sanja Fidler},
  title     = {{VSE++}: Improving Visual-Semantic Embeddings with Hard Negatives},
  booktitle = {Proceedings of the British Machine Vision Conference},
  year      = {2018}
}"""


def _vse(name: str, target: str, summary: str, citation: str, year: int) -> MethodCard:
    return MethodCard(
        api=1,
        name=name,
        target=f"crossfit_ranking.vse:{target}",
        summary=summary,
        inputs={"image": ("vectors",), "text": ("vectors", "tokens", "strings", "sequence")},
        labels="none",
        kind="embedding",
        year=year,
        citation=citation,
        search_space={
            "width": Choice(128, 256, 512, 1024),
            "lr": Float(2e-4, 5e-3, log=True),
            "margin": Float(0.05, 0.4),
            "dropout": Float(0.0, 0.5),
            "max_epochs": Int(8, 40, log=True),
        },
        test_params={
            "width": 16,
            "word_width": 8,
            "dropout": 0.1,
            "max_epochs": 20,
            "lr": 1e-2,
            "lr_step": None,
            "batch_size": 32,
            "device": "cpu",
        },
        make_inputs="crossfit_ranking.testing:make_sentences",
    )


VSE = _vse(
    "vse", "VSE", "A linear layer and a GRU that rank by the sum of all hinges", _CITE_KIROS, 2014
)
VSEPP = _vse(
    "vsepp", "VSEPP", "A linear layer and a GRU that rank by the hardest negatives", _CITE_VSEPP,
    2018,
)  # fmt: skip


def _experiment(
    name: str, dataset: str, methods: tuple[str, ...], summary: str, citation: str, year: int
) -> ExperimentCard:
    """Return the card of an experiment with published settings or figures."""
    return ExperimentCard(
        api=1,
        name=name,
        target=f"crossfit_ranking:experiments/{name}.yaml",
        summary=summary,
        datasets=(dataset,),
        methods=methods,
        citation=citation,
        year=year,
    )


DAN_FLICKR30K = _experiment(
    "nam-2017-dan-flickr30k", "flickr30k", ("dan",),
    "m-DAN on Flickr30K, published settings", _CITE_DAN, 2017,
)  # fmt: skip
DVSA_COCO = _experiment(
    "karpathy-2015-dvsa-coco", "coco", ("dvsa",),
    "DVSA on COCO, published settings", _CITE_DVSA, 2015,
)  # fmt: skip
DVSA_FLICKR30K = _experiment(
    "karpathy-2015-dvsa-flickr30k", "flickr30k", ("dvsa",),
    "DVSA with words in context and with fragments on Flickr30K, published settings",
    _CITE_DVSA, 2015,
)  # fmt: skip
REGIONS_FLICKR8K = ExperimentCard(
    api=1,
    name="ranking-regions-flickr8k-reduced",
    target="crossfit_ranking:experiments/ranking-regions-flickr8k-reduced.yaml",
    summary="Networks that rank by regions and words on Flickr8k, reduced",
    datasets=("flickr8k",),
    methods=("cca", "dan", "dvsa"),
)
VSEPP_COCO = _experiment(
    "faghri-2018-vsepp-coco", "coco", ("vse", "vsepp"),
    "Published settings: VSE and VSE++ on MS-COCO", _CITE_VSEPP, 2018,
)  # fmt: skip
VSEPP_FLICKR30K = _experiment(
    "faghri-2018-vsepp-flickr30k", "flickr30k", ("vse", "vsepp"),
    "Published settings: VSE and VSE++ on Flickr30K", _CITE_VSEPP, 2018,
)  # fmt: skip

_CITE_WESTON = """@inproceedings{weston2011wsabie,
  author    = {Jason Weston and Samy Bengio and Nicolas Usunier},
  title     = {{WSABIE}: Scaling Up to Large Vocabulary Image Annotation},
  booktitle = {Proceedings of the 22nd International Joint Conference on Artificial Intelligence},
  pages     = {2764--2770},
  year      = {2011}
}"""

WSABIE = MethodCard(
    api=1,
    name="wsabie",
    target="crossfit_ranking.wsabie:WSABIE",
    summary="Linear maps whose violations are weighted by the estimated rank (WARP)",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2011,
    citation=_CITE_WESTON,
    search_space={
        "width": Choice(64, 128, 256, 512),
        "lr": Float(3e-4, 3e-2, log=True),
        "max_norm": Float(0.3, 10.0, log=True),
        "dropout": Float(0.0, 0.7),
        "max_epochs": Int(8, 40, log=True),
    },
    test_params={
        "width": 16,
        "dropout": 0.1,
        "max_epochs": 20,
        "lr": 2e-2,
        "lr_step": None,
        "batch_size": 32,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_inputs",
)

M_CNN_FLICKR30K = _experiment(
    "ma-2015-mcnn-flickr30k", "flickr30k", ("m-cnn",),
    "m-CNN and its levels on Flickr30K, published figures", M_CNN.citation, 2015,
)  # fmt: skip
M_RNN_FLICKR30K = _experiment(
    "mao-2015-mrnn-flickr30k", "flickr30k", ("m-rnn", "cca"),
    "m-RNN on Flickr30K, published figures", M_RNN.citation, 2015,
)  # fmt: skip
M_CNN_M_RNN_FLICKR8K = _experiment(
    "m-cnn-m-rnn-flickr8k-reduced", "flickr8k", ("m-cnn", "m-rnn", "cca"),
    "Reduced: the levels of m-CNN and both ranking rules of m-RNN on Flickr8k", "", 2015,
)  # fmt: skip

_CITE_DSPE = """@inproceedings{wang2016dspe,
  author    = {Liwei Wang and Yin Li and Svetlana Lazebnik},
  title     = {Learning Deep Structure-Preserving Image-Text Embeddings},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition
               (CVPR)},
  pages     = {5005--5013},
  year      = {2016}
}"""
_CITE_RRF_NET = """@inproceedings{liu2017rrfnet,
  author    = {Yu Liu and Yanming Guo and Erwin M. Bakker and Michael S. Lew},
  title     = {Learning a Recurrent Residual Fusion Network for Multimodal Matching},
  booktitle = {Proceedings of the IEEE International Conference on Computer Vision (ICCV)},
  pages     = {4107--4116},
  year      = {2017}
}"""
_CITE_TWO_WAY_NET = """@inproceedings{eisenschtat2017twowaynet,
  author    = {Aviv Eisenschtat and Lior Wolf},
  title     = {Linking Image and Text with 2-Way Nets},
  booktitle = {Proceedings of the IEEE Conference on Computer Vision and Pattern Recognition
               (CVPR)},
  pages     = {4601--4611},
  year      = {2017}
}"""

DSPE = MethodCard(
    api=1,
    name="dspe",
    target="crossfit_ranking.dspe:DSPE",
    summary="Two branches ranked by their largest hinges, with the captions of an image together",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2016,
    citation=_CITE_DSPE,
    search_space={
        "lr": Float(1e-4, 3e-3, log=True),
        "margin": Float(0.03, 0.3, log=True),
        "width": Choice(64, 128, 256, 512),
        "dropout": Float(0.0, 0.6),
        "max_epochs": Int(10, 60, log=True),
    },
    test_params={
        "hidden": (32,), "width": 8, "dropout": 0.1, "lr": 1e-2, "batch_size": 32,
        "max_epochs": 15, "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_inputs",
)  # fmt: skip
RRF_NET = MethodCard(
    api=1,
    name="rrf-net",
    target="crossfit_ranking.rrf_net:RRFNet",
    summary="Residual steps that share weights, fused; ranked across and within the views",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2017,
    citation=_CITE_RRF_NET,
    search_space={
        "lr": Float(1e-4, 3e-3, log=True),
        "margin": Float(0.03, 0.3, log=True),
        "width": Choice(64, 128, 256, 512),
        "steps": Int(0, 4),
        "dropout": Float(0.0, 0.6),
        "max_epochs": Int(10, 60, log=True),
    },
    test_params={
        "hidden": 32, "width": 8, "dropout": 0.1, "lr": 1e-2, "batch_size": 32, "max_epochs": 15,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_inputs",
)  # fmt: skip
TWO_WAY_NET = MethodCard(
    api=1,
    name="two-way-net",
    target="crossfit_ranking.two_way_net:TwoWayNet",
    summary="2WayNet: one view from the other in both directions with tied weights",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="none",
    kind="embedding",
    year=2017,
    citation=_CITE_TWO_WAY_NET,
    search_space={
        "lr": Float(1e-4, 3e-3, log=True),
        "coupling": Float(0.1, 10.0, log=True),
        "dropout": Float(0.0, 0.6),
        "decorrelation": Float(0.05, 5.0, log=True),
        "max_epochs": Int(10, 60, log=True),
    },
    test_params={
        "widths": (24, 16, 24), "dropout": 0.1, "lr": 1e-2, "batch_size": 32, "max_epochs": 30,
        "device": "cpu",
    },
    make_inputs="crossfit_ranking.testing:make_inputs",
)  # fmt: skip

DSPE_COCO = _experiment(
    "wang-2016-dspe-coco", "coco", ("dspe",),
    "Published settings: DSPE on MS-COCO", _CITE_DSPE, 2016,
)  # fmt: skip
DSPE_FLICKR30K = _experiment(
    "wang-2016-dspe-flickr30k", "flickr30k", ("dspe",),
    "Published settings: DSPE on Flickr30K", _CITE_DSPE, 2016,
)  # fmt: skip
RRF_NET_COCO = _experiment(
    "liu-2017-rrf-net-coco", "coco", ("rrf-net",),
    "Published settings: RRF-Net on MS-COCO", _CITE_RRF_NET, 2017,
)  # fmt: skip
RRF_NET_FLICKR30K = _experiment(
    "liu-2017-rrf-net-flickr30k", "flickr30k", ("rrf-net",),
    "Published settings: RRF-Net on Flickr30K", _CITE_RRF_NET, 2017,
)  # fmt: skip
TWO_WAY_NET_COCO = _experiment(
    "eisenschtat-2017-2waynet-coco", "coco", ("two-way-net",),
    "Published settings: 2WayNet on MS-COCO", _CITE_TWO_WAY_NET, 2017,
)  # fmt: skip
TWO_WAY_NET_FLICKR30K = _experiment(
    "eisenschtat-2017-2waynet-flickr30k", "flickr30k", ("two-way-net",),
    "Published settings: 2WayNet on Flickr30K", _CITE_TWO_WAY_NET, 2017,
)  # fmt: skip
