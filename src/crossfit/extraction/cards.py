"""Cards of the built-in extractors."""

from __future__ import annotations

from crossfit.cards import Choice, ExtractorCard, Int

GRID = ExtractorCard(
    api=1,
    name="grid",
    target="crossfit.extraction.grid:GridFeatures",
    summary="Gradient and hue histograms and colour moments on a grid of cells; no weights",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions"),
    citation=(
        "@inproceedings{dalal2005hog, title={Histograms of oriented gradients for human "
        "detection}, author={Dalal, Navneet and Triggs, Bill}, booktitle={CVPR}, year={2005}}"
    ),
    year=2005,
    search_space={"orientations": Int(6, 12), "color_bins": Int(4, 16)},
    test_params={"grid": 2, "size": 16, "cache": False},
)

LDA = ExtractorCard(
    api=1,
    name="lda",
    target="crossfit.extraction.text:LdaTopics",
    summary="Topic proportions by latent Dirichlet allocation (gensim), repeatable per document",
    modality="text",
    inputs=("strings",),
    outputs=("vectors",),
    needs_fit=True,
    citation=(
        "@inproceedings{hoffman2010lda, title={Online learning for latent Dirichlet allocation}, "
        "author={Hoffman, Matthew and Blei, David and Bach, Francis}, booktitle={NIPS}, "
        "year={2010}}"
    ),
    year=2010,
    search_space={
        "n_topics": Int(10, 200, log=True),
        "no_below": Choice(2, 5, 20),
        "passes": Int(5, 20),
    },
    test_params={"n_topics": 4, "passes": 2, "no_below": 1, "no_above": 1.0},
)

TOKENS = ExtractorCard(
    api=1,
    name="tokens",
    target="crossfit.extraction.text:Tokens",
    summary="Word ids with the vocabulary of the training texts, ragged or padded",
    modality="text",
    inputs=("strings",),
    outputs=("tokens",),
    needs_fit=True,
    search_space={"min_count": Int(1, 5)},
    test_params={"min_count": 1},
)

_TORCHVISION = "by torchvision's name (downloaded on first use) or from a local file"
_TORCHVISION_LICENCE = (
    "torchvision's code: BSD-3-Clause; the terms of the training data (ImageNet, COCO) may apply "
    "to its weights"
)

BACKBONE = ExtractorCard(
    api=1,
    name="backbone",
    target="crossfit.extraction.backbones:Backbone",
    summary="Any layer of any torchvision network: AlexNet pool5 and fc7, VGG19 conv5_4 and fc7",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions", "maps"),
    weights=_TORCHVISION,
    licence=_TORCHVISION_LICENCE,
    citation=(
        "@inproceedings{krizhevsky2012alexnet, title={{ImageNet} classification with deep "
        "convolutional neural networks}, author={Krizhevsky, Alex and Sutskever, Ilya and Hinton, "
        "Geoffrey E.}, booktitle={NIPS}, year={2012}}\n"
        "@inproceedings{simonyan2015vgg, title={Very deep convolutional networks for large-scale "
        "image recognition}, author={Simonyan, Karen and Zisserman, Andrew}, booktitle={ICLR}, "
        "year={2015}}"
    ),
    year=2012,
    test_params={"weights": None, "resize": 64, "size": 64, "device": "cpu", "cache": False},
)

FASTER_RCNN = ExtractorCard(
    api=1,
    name="faster-rcnn",
    target="crossfit.extraction.detectors:FasterRCNN",
    summary="Objects found by Faster R-CNN: 1024-d vectors with boxes, scores and classes",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("regions",),
    weights=_TORCHVISION,
    licence=_TORCHVISION_LICENCE,
    citation=(
        "@inproceedings{ren2015fasterrcnn, title={Faster {R-CNN}: Towards real-time object "
        "detection with region proposal networks}, author={Ren, Shaoqing and He, Kaiming and "
        "Girshick, Ross and Sun, Jian}, booktitle={NIPS}, year={2015}}"
    ),
    year=2015,
    search_space={"top_k": Int(5, 36)},
    test_params={
        "name": "fasterrcnn_mobilenet_v3_large_320_fpn",
        "weights": None,
        "top_k": 3,
        "score_threshold": 0.0,
        "min_size": 64,
        "device": "cpu",
        "cache": False,
    },
)

ONNX_DETECTOR = ExtractorCard(
    api=1,
    name="onnx-detector",
    target="crossfit.extraction.detectors:OnnxDetector",
    summary="Objects found by a detector in an ONNX file (FastestDet), with any description",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("regions",),
    weights="a local ONNX file",
    citation=(
        "@misc{ma2022fastestdet, title={FastestDet: ultra lightweight anchor-free real-time "
        "object detection}, author={Ma, Xuequan}, year={2022}, "
        "howpublished={https://github.com/dog-qiuqiu/FastestDet}}"
    ),
    year=2022,
    search_space={"top_k": Int(5, 36)},
)

MEAN_REGIONS = ExtractorCard(
    api=1,
    name="mean-regions",
    target="crossfit.extraction.regions:MeanRegions",
    summary="Mean of the regions of each picture, after an extractor of regions",
    modality="image",
    inputs=("sequence",),
    outputs=("vectors",),
)

DOC2VEC = ExtractorCard(
    api=1,
    name="doc2vec",
    target="crossfit.extraction.words:Doc2VecFeatures",
    summary="Paragraph vectors (gensim), repeatable per document",
    modality="text",
    inputs=("strings",),
    outputs=("vectors",),
    needs_fit=True,
    citation=(
        "@inproceedings{le2014doc2vec, title={Distributed representations of sentences and "
        "documents}, author={Le, Quoc and Mikolov, Tomas}, booktitle={ICML}, year={2014}}"
    ),
    year=2014,
    search_space={
        "vector_size": Int(50, 400, log=True),
        "epochs": Int(10, 80, log=True),
        "dm": Choice(True, False),
    },
    test_params={"vector_size": 8, "epochs": 2, "min_count": 1},
)

WORD_VECTORS = ExtractorCard(
    api=1,
    name="word-vectors",
    target="crossfit.extraction.words:WordVectors",
    summary="Word vectors from a word2vec or GloVe file, or learnt by skip-gram; ragged or mean",
    modality="text",
    inputs=("strings",),
    outputs=("regions", "vectors"),
    needs_fit=True,
    weights="a local file, or learnt from the training texts",
    citation=(
        "@inproceedings{mikolov2013word2vec, title={Distributed representations of words and "
        "phrases and their compositionality}, author={Mikolov, Tomas and Sutskever, Ilya and "
        "Chen, Kai and Corrado, Greg and Dean, Jeffrey}, booktitle={NIPS}, year={2013}}"
    ),
    year=2013,
    search_space={"vector_size": Int(50, 400, log=True), "epochs": Int(5, 40, log=True)},
    test_params={"vector_size": 8, "epochs": 2, "min_count": 1},
)

CHARACTERS = ExtractorCard(
    api=1,
    name="characters",
    target="crossfit.extraction.words:Characters",
    summary="The first 201 characters of a text as positions in an alphabet of 70, or one-hot",
    modality="text",
    inputs=("strings",),
    outputs=("tokens",),
    citation=(
        "@inproceedings{zhang2015character, title={Character-level convolutional networks for "
        "text classification}, author={Zhang, Xiang and Zhao, Junbo and LeCun, Yann}, "
        "booktitle={NIPS}, year={2015}}"
    ),
    year=2015,
    test_params={"length": 12},
)

MFCC = ExtractorCard(
    api=1,
    name="mfcc",
    target="crossfit.extraction.audio:MFCC",
    summary="Mel-frequency cepstral coefficients (librosa): 20 x 161 for 30 seconds",
    modality="audio",
    inputs=("paths", "samples"),
    outputs=("maps", "vectors"),
    citation=(
        "@article{davis1980mfcc, title={Comparison of parametric representations for monosyllabic "
        "word recognition in continuously spoken sentences}, author={Davis, Steven and "
        "Mermelstein, Paul}, journal={IEEE Transactions on Acoustics, Speech, and Signal "
        "Processing}, volume={28}, number={4}, pages={357--366}, year={1980}}"
    ),
    year=1980,
    test_params={"duration": 1.0, "cache": False},
)

LOG_MEL = ExtractorCard(
    api=1,
    name="log-mel",
    target="crossfit.extraction.audio:LogMel",
    summary="Logarithmic mel spectra (librosa)",
    modality="audio",
    inputs=("paths", "samples"),
    outputs=("maps", "vectors"),
    search_space={"n_mels": Int(32, 128)},
    test_params={"duration": 1.0, "cache": False},
)

FISHER = ExtractorCard(
    api=1,
    name="fisher",
    target="crossfit.extraction.fisher:FisherVector",
    summary="Fisher vectors of sets of word vectors: GMM, LMM and HGLMM",
    modality="text",
    inputs=("sequence",),
    outputs=("vectors",),
    needs_fit=True,
    citation=(
        "@inproceedings{klein2015fisher, title={Associating neural word embeddings with deep "
        "image representations using {F}isher vectors}, author={Klein, Benjamin and Lev, Guy and "
        "Sadeh, Gil and Wolf, Lior}, booktitle={CVPR}, pages={4437--4446}, year={2015}}"
    ),
    year=2015,
    search_space={
        "mixture": Choice("hglmm", "gmm", "lmm"),
        "n_components": Int(5, 60, log=True),
        "ica": Choice(True, False),
    },
    test_params={"n_components": 2},
)
