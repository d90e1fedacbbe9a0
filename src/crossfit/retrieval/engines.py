"""Galleries in a search engine: what an index holds, written to PostgreSQL and searched there."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from crossfit._arguments import check_arguments, shown
from crossfit.querying import SearchResult, check_k
from crossfit.retrieval._segments import arrow
from crossfit.retrieval._where import And, Compare, Empty, In, Or, Tree, parse_filter
from crossfit.retrieval.stored import METRICS, Index
from crossfit.similarities import MEASURES, finite_rows

__all__ = ["PostgresGallery"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
#: Rows that are read at a time.
_BLOCK = 10_000


class PostgresGallery:
    """A gallery in PostgreSQL with its extension pgvector, searched as an `Index` is.

    The table has the vectors as the index holds them, and its columns. All items are compared, so
    that the results are those of the exact index; an index of pgvector on the column ``vector``
    makes it fast and approximate.

    Parameters
    ----------
    address : str
        Where the server is, for instance ``"postgresql://user@localhost/database"``.
    table : str
        Name of the table: lower-case letters, digits and underscores.

    See Also
    --------
    Index : The same on disk, without a server.

    Examples
    --------
    >>> from crossfit.retrieval.engines import PostgresGallery
    >>> PostgresGallery.write(index, "postgresql://localhost/shop", "photos")  # doctest: +SKIP
    >>> gallery = PostgresGallery("postgresql://localhost/shop", "photos")  # doctest: +SKIP
    >>> gallery.search(vectors, k=10, where="year > 2010")  # doctest: +SKIP
    """

    def __init__(self, address: str, table: str) -> None:
        check_arguments("PostgresGallery", {"address": [str], "table": [str]}, locals())
        self.table = _table_name(table)
        self._connection = _psycopg().connect(address, autocommit=True)
        found = self._connection.execute(
            "SELECT obj_description(to_regclass(%s), 'pg_class')", [self.table]
        ).fetchone()[0]
        if found is None:
            raise ValueError(f"the database has no gallery {table!r}; PostgresGallery.write it")
        about = json.loads(found)
        self.metric: str = about["metric"]
        self.dim: int = about["dim"]
        self._schema = arrow().ipc.read_schema(arrow().py_buffer(bytes.fromhex(about["schema"])))

    @classmethod
    def write(cls, index: Index, address: str, table: str) -> Self:
        """Write all items of an index to a new table, in one transaction.

        Parameters
        ----------
        index : Index
            Index with one vector per item and without a correction.
        address, table : str
            As in the class. The table must not exist.

        Returns
        -------
        PostgresGallery

        Raises
        ------
        ValueError
            If the index cannot be written to a table.
        """
        name = _table_name(table)
        if not isinstance(index, Index):
            raise TypeError(f"an Index is required, got {type(index).__name__}")
        if index.views or index.correction is not None:
            raise ValueError(
                "a table takes an index with one vector per item and without a correction"
            )
        everything = index.table()
        fields = list(everything.schema)[1:]
        columns = "".join(f", c{at} {_type_of(field)}" for at, field in enumerate(fields))
        schema = everything.schema.remove_metadata().serialize().to_pybytes().hex()
        about = json.dumps({"metric": index.metric, "dim": index.dim, "schema": schema})
        psycopg = _psycopg()
        with psycopg.connect(address) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(
                f"CREATE TABLE {name} (number bigint PRIMARY KEY, id text UNIQUE NOT NULL, "
                f"vector vector({index.dim}) NOT NULL{columns})"
            )
            connection.execute(
                psycopg.sql.SQL("COMMENT ON TABLE {} IS {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Literal(about)
                )
            )
            with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                for start in range(0, len(everything), _BLOCK):
                    part = everything.slice(start, _BLOCK).to_pylist()
                    vectors = index.vectors([row["id"] for row in part])
                    for at, (row, vector) in enumerate(zip(part, vectors)):
                        values = [_plain(row[field.name]) for field in fields]
                        copy.write_row((start + at, row["id"], _literal(vector), *values))
        return cls(address, table)

    def __len__(self) -> int:
        count: int = self._connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]
        return count

    def search(self, vectors: ArrayLike, k: int = 10, where: str | None = None) -> SearchResult:
        """Find the best items for queries in the common space.

        Parameters
        ----------
        vectors : array-like of shape (n, dim)
            Queries.
        k : int, default=10
            Number of items.
        where : str, optional
            As in `Index.search`.

        Returns
        -------
        SearchResult
            As of `Index.search`.

        Raises
        ------
        TypeError, ValueError
            If the queries are not finite rows of the right width, or the filter is not valid.
        """
        check_k(k)
        rows = finite_rows(vectors, "the queries")
        if rows.shape[1] != self.dim:
            raise ValueError(f"the gallery has {self.dim} columns, the queries {rows.shape[1]}")
        queries = MEASURES[METRICS[self.metric]].left(np.asarray(rows, np.float64))
        values: list[Any] = []
        condition = "TRUE"
        if where is not None:
            condition = self._sql(parse_filter(where, self._schema), values)
        # The negated inner product, or the distance.
        operator = "<->" if self.metric == "euclidean" else "<#>"
        columns = "".join(f", c{at}" for at in range(len(self._schema) - 1))
        statement = (
            f"SELECT number, id, vector {operator} %s::vector AS away{columns} FROM {self.table} "
            f"WHERE {condition} ORDER BY away, number LIMIT %s"
        )
        found = [
            self._connection.execute(statement, [_literal(query), *values, int(k)]).fetchall()
            for query in queries
        ]
        shape = (len(queries), len(found[0]) if found else 0)
        ids, items = np.empty(shape, object), np.empty(shape, object)
        names = self._schema.names[1:]
        for at, rows_of in enumerate(found):
            for rank, row in enumerate(rows_of):
                ids[at, rank], items[at, rank] = row[1], dict(zip(names, row[3:]))
        numbers = np.array([[row[0] for row in part] for part in found], np.int64).reshape(shape)
        scores = np.array([[-row[2] for row in part] for part in found], np.float32).reshape(shape)
        return SearchResult(numbers, scores, items, ids)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _column(self, name: str) -> str:
        if name == "id":
            return '(id COLLATE "C")'
        at = self._schema.get_field_index(name) - 1
        text = arrow().types.is_string(self._schema.field(name).type)
        # In the order of the bytes, as Arrow compares texts.
        return f'(c{at} COLLATE "C")' if text else f"c{at}"

    def _sql(self, tree: Tree, values: list[Any]) -> str:
        """Return a condition, and append its values."""
        if isinstance(tree, (And, Or)):
            word = " AND " if isinstance(tree, And) else " OR "
            return "(" + word.join(self._sql(part, values) for part in tree.parts) + ")"
        column = self._column(tree.column)
        if isinstance(tree, Empty):
            return f"({column} IS {'NOT ' * tree.negated}NULL)"
        if isinstance(tree, In):
            values.append(list(tree.values))
            return f"({column} {'<> ALL' if tree.negated else '= ANY'}(%s))"
        values.append(tree.value)
        if isinstance(tree, Compare):
            operator = {"==": "=", "!=": "<>"}.get(tree.operator, tree.operator)
            return f"({column} {operator} %s)"
        if arrow().types.is_string(self._schema.field(tree.column).type):
            return f"({'NOT ' * tree.negated}position(%s::text in {column}) > 0)"
        # An empty element does not make the answer unknown.
        found = f"coalesce(%s = ANY({column}), FALSE)"
        return f"({column} IS NOT NULL AND {'NOT ' * tree.negated}{found})"


def _psycopg() -> Any:
    try:
        import psycopg
        import psycopg.sql
    except ImportError as error:
        raise ImportError(
            "PostgreSQL needs psycopg; pip install 'crossfit-retrieval[postgres]'"
        ) from error
    return psycopg


def _table_name(table: Any) -> str:
    if not isinstance(table, str) or not _NAME.fullmatch(table):
        raise ValueError(
            "a table must have a name of lower-case letters, digits and underscores, got "
            f"{shown(table)}"
        )
    return table


def _type_of(field: Any) -> str:
    """Return the type of a column in PostgreSQL."""
    types, kind = arrow().types, field.type
    if types.is_list(kind):
        return f"{_type_of(field.with_type(kind.value_type))}[]"
    for test, name in (
        (types.is_boolean, "boolean"),
        (types.is_integer, "bigint"),
        (types.is_floating, "double precision"),
        (types.is_string, "text"),
        (types.is_null, "text"),
        (types.is_date, "date"),
    ):
        if test(kind):
            return name
    if types.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    raise ValueError(f"column {field.name!r} is {kind}, which a table cannot hold")


def _plain(value: Any) -> Any:
    """Return a value as PostgreSQL compares it: it takes NaN as larger than all numbers."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _literal(vector: Any) -> str:
    return "[" + ",".join(map(repr, np.asarray(vector, np.float32).tolist())) + "]"
