"""Cards of the experiments shipped with crossfit."""

from crossfit.cards import ExperimentCard

EMOJI_PLAIN = ExperimentCard(
    api=1,
    name="emoji-plain",
    target="crossfit.experiment:shipped/emoji-plain.yaml",
    summary="CCA and semantic matching on the emoji, with features that need no weights",
    datasets=("emoji",),
    methods=("cca", "sm"),
)

EMOJI_FUSION = ExperimentCard(
    api=1,
    name="emoji-fusion",
    target="crossfit.experiment:shipped/emoji-fusion.yaml",
    summary="Fusion and re-ranking of CCA on words and on letters, on the emoji",
    datasets=("emoji",),
    methods=("cca", "fusion", "reranker"),
)

KLEIN_COCO = ExperimentCard(
    api=1,
    name="klein-2015-hglmm-coco",
    target="crossfit.experiment:shipped/klein-2015-hglmm-coco.yaml",
    summary="Fisher vectors of words with CCA on MS-COCO, published settings",
    datasets=("coco",),
    methods=("gmm-hglmm-cca", "hglmm-cca"),
)

KLEIN_FLICKR30K = ExperimentCard(
    api=1,
    name="klein-2015-hglmm-flickr30k",
    target="crossfit.experiment:shipped/klein-2015-hglmm-flickr30k.yaml",
    summary="Fisher vectors of words with CCA on Flickr30K, published settings",
    datasets=("flickr30k",),
    methods=("gmm-hglmm-cca", "hglmm-cca"),
)

SHALLOW_WIKIPEDIA = ExperimentCard(
    api=1,
    name="shallow-wikipedia",
    target="crossfit.experiment:shipped/shallow-wikipedia.yaml",
    summary="Every closed-form method on the shallow features of Wikipedia, tuned by folds",
    datasets=("wikipedia",),
    methods=(
        "blm", "cca", "cca-3v", "cfa", "cm", "gmlda", "gmmfa", "jfssl", "jrl", "kcca", "lcfs",
        "lgcfl", "macc", "ml-cca", "pls", "s2upg", "scm", "sm",
    ),
)  # fmt: skip
