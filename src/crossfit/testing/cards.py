"""Cards of the correct and faulty plugins that test the kit itself; none of them is registered."""

from dataclasses import replace

from crossfit.cards import DatasetCard, ExtractorCard, MethodCard

LABEL_REGRESSION = MethodCard(
    api=1,
    name="label-regression",
    target="crossfit.testing.bad:LabelRegression",
    summary="Ridge regression of every view on the class labels; a correct method",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="single",
)
VALIDATES_NOTHING = MethodCard(
    api=1,
    name="validates-nothing",
    target="crossfit.testing.bad:ValidatesNothing",
    summary="A faulty method that accepts any input",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="single",
)
LEAKS_TEST_LABELS = MethodCard(
    api=1,
    name="leaks-test-labels",
    target="crossfit.testing.bad:LeaksTestLabels",
    summary="A faulty method that learns from the labels it is scored with",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="single",
)
REGION_REGRESSION = MethodCard(
    api=1,
    name="region-regression",
    target="crossfit.testing.bad:RegionRegression",
    summary="Ridge regression of the mean region on the class labels; a correct method",
    inputs={"image": ("regions",), "text": ("vectors",)},
    labels="single",
)
DIVIDES_BY_LONGEST = replace(
    REGION_REGRESSION,
    name="divides-by-longest",
    target="crossfit.testing.bad:DividesByLongest",
    summary="A faulty method that includes the padding in its means",
)
SUMS_PADDING = replace(
    REGION_REGRESSION,
    name="sums-padding",
    target="crossfit.testing.bad:SumsPadding",
    summary="A faulty method that relies on padding to be zero",
)
TAKES_PADDING_FOR_REGIONS = replace(
    REGION_REGRESSION,
    name="takes-padding-for-regions",
    target="crossfit.testing.bad:TakesPaddingForRegions",
    summary="A faulty pair method that matches texts with padding",
    kind="pair",
)
REGION_DOTS = MethodCard(
    api=1,
    name="region-dots",
    target="crossfit.testing.bad_networks:RegionDots",
    summary="The mean product of a text with the regions of an image; a correct network",
    inputs={"image": ("regions",), "text": ("vectors",)},
    kind="pair",
    test_params={"max_epochs": 20, "lr": 0.01, "batch_size": 40, "device": "cpu"},
)
LIES_ABOUT_MEMORY = replace(
    REGION_DOTS,
    name="lies-about-memory",
    target="crossfit.testing.bad_networks:LiesAboutMemory",
    summary="A faulty network that declares less memory per pair than it uses",
)
HOARDS_MEMORY = replace(
    REGION_DOTS,
    name="hoards-memory",
    target="crossfit.testing.bad_networks:HoardsMemory",
    summary="A faulty network that declares far more memory per pair than it uses",
)
IGNORES_THE_MASK = replace(
    REGION_DOTS,
    name="ignores-the-mask",
    target="crossfit.testing.bad_networks:IgnoresTheMask",
    summary="A faulty network that scores padding as if it were regions",
)
COLLAPSES_TEXTS = replace(
    REGION_DOTS,
    name="collapses-texts",
    target="crossfit.testing.bad_networks:CollapsesTexts",
    summary="A faulty network whose texts are almost the same vector",
)

LETTER_COUNTS = ExtractorCard(
    api=1,
    name="letter-counts",
    target="crossfit.testing.bad_extractors:LetterCounts",
    summary="Counts of each letter in a text; a correct extractor",
    modality="text",
    inputs=("strings",),
)
CENTRES_BATCH = replace(
    LETTER_COUNTS,
    name="centres-batch",
    target="crossfit.testing.bad_extractors:CentresBatch",
    summary="A faulty extractor whose features depend on the batch",
)
UNSEEDED_NOISE = replace(
    LETTER_COUNTS,
    name="unseeded-noise",
    target="crossfit.testing.bad_extractors:UnseededNoise",
    summary="A faulty extractor whose features differ between calls",
)
COLOURS = DatasetCard(
    api=1,
    name="colours",
    target="crossfit.testing.bad_datasets:load_colours",
    summary="Twelve colours and their names; a correct loader",
    url="https://example.org/colours",
    counts={"train": 10, "test": 2},
    make_files="crossfit.testing.bad_datasets:make_files",
)
LEAKING = replace(
    COLOURS,
    name="leaking",
    target="crossfit.testing.bad_datasets:load_leaking",
    summary="A faulty loader that puts training rows into the test split",
)
FORGETTING = replace(
    COLOURS,
    name="forgetting",
    target="crossfit.testing.bad_datasets:load_forgetting",
    summary="A faulty loader that ignores missing files and whose revision never changes",
)
