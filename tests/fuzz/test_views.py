"""All public methods of Views and Ragged with hostile arguments, one inside another."""

import datetime
import dis
import os
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import crossfit
from crossfit import Channels, Ragged, Views
from crossfit.views import as_float

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "3000")) // 10
OURS = os.path.dirname(crossfit.__file__)

VIEWS = Views(image=np.arange(12.0).reshape(4, 3), text=list("abcd"))
SHARED = Views.from_captions(np.eye(2), list("abcd"), [0, 1, 1, 0])
CHANNELS = Channels(a=np.eye(4), b=np.ma.array(np.eye(4)))
RAGGED = Ragged(np.arange(12.0).reshape(6, 2), [0, 1, 1, 4, 6], {"boxes": np.arange(6)})
WORDS = Ragged.from_list([["a", "b"], [], ["c"]])


class Hostile:
    """An object that has every protocol and breaks each of them."""

    shape = (4,)
    dtype = "float32"

    def __array__(self, *args, **kwargs):
        raise RuntimeError("no")

    def __len__(self):
        return 4

    def __eq__(self, other):
        return np.array([True, False])

    __hash__ = None


class Table:
    def to_numpy(self):
        raise RuntimeError("no")

    __array__ = to_numpy


def broken(made, value=99):
    made.indices[1] = value
    return made


def itself():
    held = []
    held.append(held)
    return held


ATOMS = st.sampled_from(
    [
        None, True, False, 0, 1, -1, 2, 5, 2**31 + 1, 10**30, -(2**63), 0.5, -1.0, 1e308, np.nan,
        np.inf, 1j, "", "a", "image", "text", "\0", "\udcef", b"a", np.float32("nan"), np.int8(1),
        np.bool_(True), np.str_("b"), np.datetime64("NaT"), np.datetime64("2020-01-01"), pd.NA,
        pd.NaT, np.ma.masked, Fraction(1, 3), Decimal("0.5"), datetime.date(2020, 1, 1), ...,
        Path("a"), np.array(3.0), int, object(), slice(None), slice(3, None, -1), slice("a"),
        slice(0, 4, 0), Hostile(), Table(), VIEWS, CHANNELS, RAGGED, WORDS,
    ]
)  # fmt: skip
ARRAYS = st.sampled_from(
    [
        np.eye(4), np.zeros((4, 0)), np.zeros((0, 3)), np.ones((2, 4, 3)), np.arange(4),
        np.array([0, 1, 1, 0]), np.array([True, False, True, False]), np.full((4, 2), np.nan),
        np.full((4, 2), 1e200), np.full((4, 3), 2**63 - 1), np.full((4, 3), 2**64 - 1, np.uint64),
        np.eye(4, dtype=complex), np.eye(4, dtype=">f4"), np.eye(4, dtype=np.longdouble),
        np.array(list("abcd")), np.array(["a", None, "b", np.nan], object), np.zeros(4, "M8[s]"),
        np.zeros(4, [("a", int), ("b", float)]), np.ma.array(np.eye(4), mask=np.eye(4)),
        np.ma.array(np.arange(4), mask=[0, 0, 0, 1]), np.asmatrix(np.eye(4)),
        np.array(["a"] * 4, np.dtypes.StringDType()), np.eye(4)[::-1, ::-2], np.zeros((1,) * 9),
        np.array([[1], [1, 2], None, {3}], object), np.array([b"a"] * 4),
        sp.csr_array(np.eye(4)), sp.dok_array(np.eye(4)), sp.dia_array(np.eye(4)),
        sp.bsr_array(np.eye(4)), sp.lil_matrix(np.eye(4)), sp.coo_array(np.ones(4)),
        broken(sp.csr_array(np.eye(4))), broken(sp.csc_array(np.eye(4)), -5),
        pd.Series(["a", None, "b", "c"]), pd.Series([1, None, 2, 3], dtype="Int64"),
        pd.Series(list("abca"), dtype="category"), pd.DataFrame(np.eye(4)).convert_dtypes(),
        pd.DataFrame({"a": [1, 2, 3, 4], "b": list("abcd")}), pd.DataFrame(index=range(4)),
        pd.DataFrame({("a", 1): [1, 2, 3, 4]}), pd.Index([1, 2, 3, 4]), pd.interval_range(0, 4),
        torch.eye(4), torch.eye(4, dtype=torch.bfloat16).requires_grad_(), torch.eye(4).to_sparse(),
        torch.eye(4).to_sparse_csr(), torch.eye(4, device="meta"), torch.tensor(1.0),
        torch.eye(4, dtype=torch.complex64).conj(), torch.ones(4, dtype=torch.uint64),
        range(4), {"a": np.eye(4)}, {"image": list("abcd")}, {1: 2}, {"a", "b"}, itself(),
    ]
)  # fmt: skip
ANYTHING = st.recursive(
    ATOMS | ARRAYS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, min_size=4, max_size=4)
        | st.tuples(inner, inner)
        | inner.map(lambda x: [x] * 4)
        | inner.map(lambda x: {"a": x})
        | inner.map(lambda x: (i for i in [x]))
        | inner.map(lambda x: pd.Series([x, x, x, x], dtype=object))
    ),
    max_leaves=6,
)

OF_VIEWS = {
    "select": lambda v, a, b, c: v.select(a, b),
    "getitem": lambda v, a, b, c: v[a],
    "slice": lambda v, a, b, c: v[a:b:c],
    "distinct": lambda v, a, b, c: v.distinct(a),
    "first_rows": lambda v, a, b, c: v.first_rows(a),
    "replace": lambda v, a, b, c: v.replace(text=a, image=b),
    "replace other": lambda v, a, b, c: v.replace(other=a),
    "rename": lambda v, a, b, c: v.rename(a),
    "rename to": lambda v, a, b, c: v.rename({"image": a, "text": b}),
    "with_groups": lambda v, a, b, c: v.with_groups(a),
    "map": lambda v, a, b, c: v.map(lambda part, name: a),
    "map names": lambda v, a, b, c: v.map(lambda part, name: part, a),
    "item_labels": lambda v, a, b, c: v.item_labels("image", a),
    "item_labels of": lambda v, a, b, c: v.item_labels(a, [1, 1, 1, 1]),
    "relevance": lambda v, a, b, c: v.relevance("image", "text", a),
    "relevance of": lambda v, a, b, c: v.relevance(a, b),
    "contains": lambda v, a, b, c: a in v,
    "repr": lambda v, a, b, c: repr(v.map(lambda part, name: a)),
}  # fmt: skip
MAKING = {
    "views": lambda a, b, c: Views(image=a, text=b),
    "mapping": lambda a, b, c: Views(a),
    "mapping of": lambda a, b, c: Views({"a": a}),
    "channels": lambda a, b, c: Channels(a=a, b=b),
    "channel": lambda a, b, c: Views(a={"b": a, "c": b}),
    "captions": lambda a, b, c: Views.from_captions(a, b, [0, 1, 2, 3]),
    "items": lambda a, b, c: Views.from_items(a=a, b=b, index={"a": [0, 1, 0, 1]}),
    "items index": lambda a, b, c: Views.from_items(
        a=np.eye(2), b=np.eye(4), index={"a": a, "b": b}
    ),
    "items indices": lambda a, b, c: Views.from_items(a=np.eye(4), b=np.eye(4), index=a),
    "captions index": lambda a, b, c: Views.from_captions(np.eye(2), list("abcd"), a),
    "captions names": lambda a, b, c: Views.from_captions(np.eye(2), ["a"], [0], names=a),
    "Ragged": lambda a, b, c: Ragged(a, b),
    "Ragged offsets": lambda a, b, c: Ragged(np.eye(4), a),
    "Ragged info": lambda a, b, c: Ragged(np.eye(4), [0, 4], a),
    "from_list": lambda a, b, c: Ragged.from_list(a),
    "from_list of": lambda a, b, c: Ragged.from_list([a, b]),
    "ragged rows": lambda a, b, c: RAGGED[a],
    "ragged slice": lambda a, b, c: RAGGED[a:b],
    "padded": lambda a, b, c: RAGGED.padded(None if isinstance(a, int) and a > 99 else a, b),
    "padded words": lambda a, b, c: WORDS.padded(fill=a),
    "as_float": lambda a, b, c: Views(a=a).map(
        lambda part, name: part if isinstance(part, Channels) else as_float(part, name)
    ),
}  # fmt: skip


def on_purpose(error):
    """Return True if an error was raised by a statement of crossfit, with its own message."""
    trace = error.__traceback__
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    ours = code.co_filename.startswith(OURS)
    return ours and code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


@pytest.mark.parametrize("door", [*OF_VIEWS, *MAKING])
@settings(
    max_examples=max(10, EXAMPLES // 36), deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck), phases=[Phase.generate],
)  # fmt: skip
@given(given=st.tuples(ANYTHING, ANYTHING, ANYTHING), views=st.sampled_from([VIEWS, SHARED]))
def test_hostile_arguments_give_a_value_or_a_sentence_of_ours(door, given, views):
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*have no caption")
        warnings.filterwarnings("ignore", message=".*belong to no row")
        try:
            OF_VIEWS[door](views, *given) if door in OF_VIEWS else MAKING[door](*given)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            if not on_purpose(error):
                raise
            assert str(error).strip() and len(str(error)) < 2000
