"""Cards of the bundled methods that the kit is tried on; none of them is registered."""

from crossfit.cards import MethodCard

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
