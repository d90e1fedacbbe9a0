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

SHALLOW_WIKIPEDIA = ExperimentCard(
    api=1,
    name="shallow-wikipedia",
    target="crossfit.experiment:shipped/shallow-wikipedia.yaml",
    summary="Every closed-form method on the shallow features of Wikipedia, tuned by folds",
    datasets=("wikipedia",),
    methods=(
        "blm", "cca", "cca-3v", "cfa", "cm", "gmlda", "gmmfa", "jfssl", "jrl", "kcca", "lcfs",
        "lgcfl", "macc", "ml-cca", "pls", "scm", "sm",
    ),
)  # fmt: skip
