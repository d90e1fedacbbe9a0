"""Cards of what the kit is tried on and brings itself; none of them is registered."""

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
    summary="A bad method that takes whatever it is given",
    inputs={"image": ("vectors",), "text": ("vectors",)},
    labels="single",
)
LEAKS_TEST_LABELS = MethodCard(
    api=1,
    name="leaks-test-labels",
    target="crossfit.testing.bad:LeaksTestLabels",
    summary="A bad method that learns from the labels it is scored with",
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
    summary="A bad method whose means count the padding",
)
SUMS_PADDING = replace(
    REGION_REGRESSION,
    name="sums-padding",
    target="crossfit.testing.bad:SumsPadding",
    summary="A bad method that relies on padding to be zero",
)
TAKES_PADDING_FOR_REGIONS = replace(
    REGION_REGRESSION,
    name="takes-padding-for-regions",
    target="crossfit.testing.bad:TakesPaddingForRegions",
    summary="A bad pair method that matches texts with padding",
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
    summary="A bad network that declares less memory for a pair than it takes",
)
HOARDS_MEMORY = replace(
    REGION_DOTS,
    name="hoards-memory",
    target="crossfit.testing.bad_networks:HoardsMemory",
    summary="A bad network that declares far more memory for a pair than it takes",
)
IGNORES_THE_MASK = replace(
    REGION_DOTS,
    name="ignores-the-mask",
    target="crossfit.testing.bad_networks:IgnoresTheMask",
    summary="A bad network that scores padding as it does regions",
)

LETTER_COUNTS = ExtractorCard(
    api=1,
    name="letter-counts",
    target="crossfit.testing.bad_extractors:LetterCounts",
    summary="How often each letter stands in a text; a correct extractor",
    modality="text",
    inputs=("strings",),
)
CENTRES_BATCH = replace(
    LETTER_COUNTS,
    name="centres-batch",
    target="crossfit.testing.bad_extractors:CentresBatch",
    summary="A bad extractor whose features depend on the batch",
)
DRAWS_ANEW = replace(
    LETTER_COUNTS,
    name="draws-anew",
    target="crossfit.testing.bad_extractors:DrawsAnew",
    summary="A bad extractor whose features differ from call to call",
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
    summary="A bad loader that puts training rows into the test split",
)
FORGETTING = replace(
    COLOURS,
    name="forgetting",
    target="crossfit.testing.bad_datasets:load_forgetting",
    summary="A bad loader that misses nothing and whose revision is always the same",
)
