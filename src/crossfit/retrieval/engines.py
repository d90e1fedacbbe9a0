"""Galleries in a search engine: what an index holds, written to a database and searched there."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crossfit._arguments import a_path, check_arguments, shown
from crossfit.querying import SearchResult, check_k
from crossfit.retrieval._segments import arrow
from crossfit.retrieval.stored import METRICS, Index
from crossfit.retrieval.where import And, Compare, Empty, In, Or, Tree, parse_filter
from crossfit.similarities import MEASURES, finite_rows

__all__ = ["LanceGallery", "PostgresGallery"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")
#: Rows that are read at a time.
_BLOCK = 10_000
#: SQL of the comparisons that it writes in another way than Python.
_SQL = {"==": "=", "!=": "<>"}

#: A row that was found: its number, its name, its distance and its columns.
Found = tuple[int, str, float, dict[str, Any]]


class _Gallery(ABC):
    """A table of a database, searched as an `Index` is.

    The columns of a table are called ``c0``, ``c1`` and so on, so that no name needs quotes.

    Parameters
    ----------
    table : str
        Name of the table.
    about : str or None
        Description that was written with the table, as JSON; None if there is no such table.
    """

    def __init__(self, table: str, about: str | None) -> None:
        self.table = table
        if about is None:
            raise ValueError(
                f"the database has no gallery {table!r}; {type(self).__name__}.write it"
            )
        self._given = json.loads(about)
        self.metric: str = self._given["metric"]
        self.dim: int = self._given["dim"]
        schema = bytes.fromhex(self._given["schema"])
        self._schema = arrow().ipc.read_schema(arrow().py_buffer(schema))

    @abstractmethod
    def __len__(self) -> int: ...

    # Without this, a gallery without items would be false.
    def __bool__(self) -> bool:
        return True

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
        tree = None if where is None else parse_filter(where, self._schema)
        found = self._nearest(queries, int(k), tree)
        shape = (len(queries), len(found[0]) if found else 0)
        ids, items = np.empty(shape, object), np.empty(shape, object)
        numbers, scores = np.empty(shape, np.int64), np.empty(shape, np.float32)
        for at, rows_of in enumerate(found):
            for rank, (number, name, away, columns) in enumerate(rows_of):
                numbers[at, rank], ids[at, rank] = number, name
                scores[at, rank], items[at, rank] = -away, columns
        return SearchResult(numbers, scores, items, ids)

    @abstractmethod
    def _nearest(
        self, queries: NDArray[np.float64], k: int, tree: Tree | None
    ) -> list[list[Found]]:
        """Return the k nearest rows of each query; equal ones in the order of their numbers."""


class PostgresGallery(_Gallery):
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
        name = _table_name(table)
        self._connection = _psycopg().connect(address, autocommit=True)
        found = self._connection.execute(
            "SELECT obj_description(to_regclass(%s), 'pg_class')", [name]
        ).fetchone()[0]
        super().__init__(name, found)

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
        about, schema = _about(index)
        fields = list(schema)[1:]
        columns = "".join(f", c{at} {_type_of(field)}" for at, field in enumerate(fields))
        psycopg = _psycopg()
        with psycopg.connect(address) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(
                f"CREATE TABLE {name} (number bigint PRIMARY KEY, id text UNIQUE NOT NULL, "
                f"vector vector({index.dim}) NOT NULL{columns})"
            )
            connection.execute(
                psycopg.sql.SQL("COMMENT ON TABLE {} IS {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.Literal(json.dumps(about))
                )
            )
            with connection.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                for start, table_part, vectors in _parts(index):
                    for at, (row, vector) in enumerate(zip(table_part.to_pylist(), vectors)):
                        values = [_plain(row[field.name]) for field in fields]
                        copy.write_row((start + at, row["id"], _literal(vector), *values))
        return cls(address, table)

    def __len__(self) -> int:
        count: int = self._connection.execute(f"SELECT count(*) FROM {self.table}").fetchone()[0]
        return count

    def _nearest(
        self, queries: NDArray[np.float64], k: int, tree: Tree | None
    ) -> list[list[Found]]:
        values: list[Any] = []
        condition = "TRUE" if tree is None else self._sql(tree, values)
        # The negated inner product, or the distance.
        operator = "<->" if self.metric == "euclidean" else "<#>"
        names = self._schema.names[1:]
        columns = "".join(f", c{at}" for at in range(len(names)))
        statement = (
            f"SELECT number, id, vector {operator} %s::vector AS away{columns} FROM {self.table} "
            f"WHERE {condition} ORDER BY away, number LIMIT %s"
        )
        return [
            [
                (number, name, away, dict(zip(names, row)))
                for number, name, away, *row in self._connection.execute(
                    statement, [_literal(query), *values, k]
                )
            ]
            for query in queries
        ]

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
            return f"({column} {_SQL.get(tree.operator, tree.operator)} %s)"
        if arrow().types.is_string(self._schema.field(tree.column).type):
            return f"({'NOT ' * tree.negated}position(%s::text in {column}) > 0)"
        # An empty element does not make the answer unknown.
        found = f"coalesce(%s = ANY({column}), FALSE)"
        return f"({column} IS NOT NULL AND {'NOT ' * tree.negated}{found})"


class LanceGallery(_Gallery):
    """A gallery in LanceDB, searched as an `Index` is.

    LanceDB keeps a table in a folder or in an object store, which any number of machines can read
    without a server. All items are compared, so that the results are those of the exact index.

    Parameters
    ----------
    address : path or str
        Where the tables are: a folder, or for instance ``"s3://bucket/galleries"``.
    table : str
        Name of the table: lower-case letters, digits and underscores.

    See Also
    --------
    PostgresGallery : The same in PostgreSQL.
    Index : The same on disk, without a database.

    Examples
    --------
    >>> import tempfile
    >>> from crossfit.retrieval import Index
    >>> from crossfit.retrieval.engines import LanceGallery
    >>> folder = tempfile.mkdtemp()
    >>> with Index.create(folder + "/photos.index", dim=2) as index:
    ...     index.add([[1.0, 0.0], [0.0, 1.0]], ["a.jpg", "b.jpg"], {"year": [2009, 2011]})
    >>> gallery = LanceGallery.write(index, folder + "/galleries", "photos")
    >>> gallery.search([[1.0, 0.1]], k=2).ids.tolist()
    [['a.jpg', 'b.jpg']]
    >>> gallery.search([[1.0, 0.1]], where="year > 2010").rows()[0]["id"]
    'b.jpg'
    """

    def __init__(self, address: str | os.PathLike[str], table: str) -> None:
        check_arguments("LanceGallery", {"address": [a_path()], "table": [str]}, locals())
        name, place = _table_name(table), os.fspath(address)
        about = None
        # LanceDB makes a folder that does not exist.
        if "://" in place or Path(place).is_dir():
            database = _lancedb().connect(place)
            try:
                self._table = database.open_table(name)
            except (ValueError, FileNotFoundError) as error:
                if "not found" not in str(error):
                    raise
            else:
                about = (self._table.schema.metadata or {}).get(b"crossfit", b"").decode() or None
        super().__init__(name, about)

    @classmethod
    def write(cls, index: Index, address: str | os.PathLike[str], table: str) -> Self:
        """Write all items of an index to a new table, which appears when it is complete.

        Parameters
        ----------
        index : Index
            Index with one vector per item and without a correction.
        address : path or str
            As in the class.
        table : str
            As in the class. The table must not exist.

        Returns
        -------
        LanceGallery

        Raises
        ------
        ValueError
            If the index cannot be written to a table, or the table exists.
        """
        check_arguments("LanceGallery.write", {"address": [a_path()], "table": [str]}, locals())
        name, place = _table_name(table), os.fspath(address)
        pa = arrow()
        about, given = _about(index)
        fields = list(given)[1:]
        schema = pa.schema(
            [
                pa.field("number", pa.int64()),
                pa.field("id", pa.string()),
                pa.field("vector", pa.list_(pa.float32(), index.dim)),
                *(
                    pa.field(f"c{at}", _kept_as(field.type, field))
                    for at, field in enumerate(fields)
                ),
            ],
            metadata={"crossfit": json.dumps({**about, "longest": _longest(index)})},
        )

        def batches() -> Iterator[Any]:
            for start, part, vectors in _parts(index):
                columns = [part.column(field.name).combine_chunks() for field in fields]
                yield pa.record_batch(
                    [
                        pa.array(np.arange(start, start + len(part))),
                        part.column("id").combine_chunks(),
                        pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), index.dim),
                        *(
                            _kept(column, field.type)
                            for column, field in zip(columns, list(schema)[3:])
                        ),
                    ],
                    schema=schema,
                )

        database = _lancedb().connect(place)
        try:
            database.create_table(name, pa.RecordBatchReader.from_batches(schema, batches()))
        except ValueError as error:
            if "already exists" not in str(error):
                raise
            raise ValueError(
                f"the database has a table {name!r} already; choose another name"
            ) from error
        return cls(address, table)

    def __len__(self) -> int:
        count: int = self._table.count_rows()
        return count

    def _nearest(
        self, queries: NDArray[np.float64], k: int, tree: Tree | None
    ) -> list[list[Found]]:
        condition = None if tree is None else self._sql(tree)
        try:
            n = self._table.count_rows(condition)
        except ValueError as error:
            if "recursion limit" not in str(error):
                raise
            raise ValueError(
                "where is nested more deeply than LanceDB can read; write it with fewer brackets"
            ) from error
        return [self._of_query(query, min(k, n), n, condition) for query in queries]

    def _of_query(
        self, query: NDArray[np.float64], k: int, n: int, condition: str | None
    ) -> list[Found]:
        if not k:
            return []
        scale = 1.0
        if self.metric != "euclidean":
            # LanceDB subtracts inner products from one, which must not be far above them.
            size = np.linalg.norm(query) * self._given["longest"]
            scale = 2.0 ** -np.round(np.log2(size)) if size else 1.0
        names = self._schema.names[1:]
        columns = ["number", "id", *(f"c{at}" for at in range(len(names))), "_distance"]
        limit = min(k + 1, n)
        while True:
            search = self._table.search(
                np.asarray(query * scale, np.float32), vector_column_name="vector"
            ).distance_type("l2" if self.metric == "euclidean" else "dot")
            if condition is not None:
                search = search.where(condition, prefilter=True)
            found = search.bypass_vector_index().select(columns).limit(limit).to_arrow()
            away = found["_distance"].to_numpy()
            # Its order of equal rows is not fixed, so that all rows equal to the last are needed.
            if limit == n or away[-1] > away[k - 1]:
                break
            limit = min(2 * limit, n)
        found = found.take(np.lexsort([found["number"].to_numpy(), away])[:k])
        away = found["_distance"].to_numpy().astype(np.float64)
        away = np.sqrt(away) if self.metric == "euclidean" else (away - 1) / scale
        parts = [
            _restored(found[f"c{at}"].combine_chunks(), field.type).to_pylist()
            for at, field in enumerate(list(self._schema)[1:])
        ]
        rows = zip(*parts) if parts else [()] * k
        return [
            (number, name, distance, dict(zip(names, row)))
            for number, name, distance, row in zip(
                found["number"].to_pylist(), found["id"].to_pylist(), away.tolist(), rows
            )
        ]

    def _sql(self, tree: Tree) -> str:
        """Return a condition, which does not contain any text of a user."""
        if isinstance(tree, Or):
            return " OR ".join(map(self._sql, tree.parts))
        if isinstance(tree, And):
            # Its parser takes few nested brackets, so that there are only those that are needed.
            return " AND ".join(
                f"({self._sql(part)})" if isinstance(part, Or) else self._sql(part)
                for part in tree.parts
            )
        at = self._schema.get_field_index(tree.column) - 1
        column = "id" if at < 0 else f"c{at}"
        kind = self._schema.field(tree.column).type
        types = arrow().types
        if isinstance(tree, Empty):
            return f"{column} IS {'NOT ' * tree.negated}NULL"
        if isinstance(tree, In):
            values = ", ".join(_lance_literal(value, kind) for value in tree.values)
            return f"{column} {'NOT ' * tree.negated}IN ({values})"
        if isinstance(tree, Compare):
            operator = _SQL.get(tree.operator, tree.operator)
            found = f"{column} {operator} {_lance_literal(tree.value, kind)}"
            # It takes NaN as larger than all numbers.
            if types.is_floating(kind) and operator not in ("=", "<>"):
                return f"{found} AND NOT isnan({column})"
            return found
        if types.is_string(kind):
            literal = _lance_literal(tree.value, kind)
            return f"{'NOT ' * tree.negated}contains({column}, {literal})"
        literal = _lance_literal(tree.value, kind.value_type)
        # An empty element does not make the answer unknown.
        found = f"coalesce(array_has({column}, {literal}), FALSE)"
        return f"{column} IS NOT NULL AND {'NOT ' * tree.negated}{found}"


def _about(index: Any) -> tuple[dict[str, Any], Any]:
    """Return the description of a new table, and the schema of the names and columns.

    Raises
    ------
    TypeError, ValueError
        If it is not an index, or not one that a table can hold.
    """
    if not isinstance(index, Index):
        raise TypeError(f"an Index is required, got {type(index).__name__}")
    if index.views or index.correction is not None:
        raise ValueError("a table takes an index with one vector per item and without a correction")
    schema = index.table().schema.remove_metadata()
    about = {
        "metric": index.metric,
        "dim": index.dim,
        "schema": schema.serialize().to_pybytes().hex(),
    }
    return about, schema


def _parts(index: Index) -> Iterator[tuple[int, Any, Any]]:
    """Yield the number of the first item, the table and the vectors of some items at a time."""
    everything = index.table()
    for start in range(0, len(everything), _BLOCK):
        part = everything.slice(start, _BLOCK)
        yield start, part, index.vectors(part.column("id").to_pylist())


def _longest(index: Index) -> float:
    """Return the length of the longest vector."""
    lengths = (
        np.linalg.norm(vectors.astype(np.float64), axis=1) for _, _, vectors in _parts(index)
    )
    return max((float(part.max()) for part in lengths), default=0.0)


def _lancedb() -> Any:
    try:
        import lancedb
    except ImportError as error:
        raise ImportError(
            "LanceDB needs lancedb; pip install 'crossfit-retrieval[lancedb]'"
        ) from error
    return lancedb


def _kept_as(kind: Any, field: Any) -> Any:
    """Return the Arrow type of a column in LanceDB."""
    pa = arrow()
    types = pa.types
    if types.is_list(kind):
        return pa.list_(_kept_as(kind.value_type, field))
    if types.is_timestamp(kind):  # its literals have a smaller range than its columns
        return pa.int64()
    for test, stored in (
        (types.is_boolean, pa.bool_()),
        (types.is_integer, pa.int64()),
        (types.is_floating, pa.float64()),
        (types.is_string, pa.string()),
        (types.is_null, pa.string()),
        (types.is_date, pa.date32()),
    ):
        if test(kind):
            return stored
    raise _cannot_hold(field)


def _kept(column: Any, kind: Any) -> Any:
    """Return a column as LanceDB keeps it: moments as numbers of their unit."""
    return column.cast(_with_unit(column.type)).cast(kind)


def _restored(column: Any, kind: Any) -> Any:
    """Return a column with the values that the index has."""
    return column.cast(_with_unit(kind), safe=False)


def _with_unit(kind: Any) -> Any:
    """Return a type with microseconds in place of longer units, and texts in place of nothing."""
    pa = arrow()
    if pa.types.is_null(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(_with_unit(kind.value_type))
    if pa.types.is_timestamp(kind) and kind.unit != "ns":
        return pa.timestamp("us", kind.tz)
    return kind


def _lance_literal(value: Any, kind: Any) -> str:
    """Return a value as LanceDB reads it in a condition on a column of a type."""
    from lancedb.expr import lit

    if isinstance(value, str):
        # As its bytes: LanceDB's own way to write a text is wrong for some with quotes.
        return f"arrow_cast(X'{value.encode().hex()}', 'Utf8')"
    if isinstance(value, datetime.datetime):
        zone = None if value.tzinfo is None else datetime.UTC
        moment = value - datetime.datetime(1970, 1, 1, tzinfo=zone)
        value = moment // datetime.timedelta(microseconds=1)
        if kind.unit == "ns":
            value = min(max(1000 * value, -(2**63)), 2**63 - 1)
    if value == -(2**63) and not isinstance(value, float):
        return f"({lit(value + 1).to_sql()} - 1)"  # it reads the number without its sign
    return str(lit(value).to_sql())


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
    raise _cannot_hold(field)


def _cannot_hold(field: Any) -> ValueError:
    return ValueError(f"column {field.name!r} is {field.type}, which a table cannot hold")


def _plain(value: Any) -> Any:
    """Return a value as PostgreSQL compares it: it takes NaN as larger than all numbers."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _literal(vector: Any) -> str:
    return "[" + ",".join(map(repr, np.asarray(vector, np.float32).tolist())) + "]"
