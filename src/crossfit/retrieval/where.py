"""Filters over the columns of a gallery: a small language, read with Python's own parser.

An expression becomes a tree of the classes below, and nothing of it is ever evaluated. The tree is
applied to Arrow tables. Negations are moved to the comparisons, where they mean the same in all
search engines: an empty entry satisfies neither a comparison nor its negation.
"""

from __future__ import annotations

import ast
import datetime
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossfit._arguments import shown
from crossfit._suggest import did_you_mean

__all__ = ["And", "Compare", "Contains", "Empty", "In", "Or", "Tree", "matching", "parse_filter"]

#: Longest expression, in characters, and deepest nesting.
LONGEST = 10_000
DEEPEST = 50

_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}
_TURNED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_HELP = "a filter is, for instance, label == 'dog' and year > 2010"

# The first and the last moment that 64-bit nanoseconds since 1970 hold, in microseconds.
_NANOSECONDS = (
    datetime.datetime(1677, 9, 21, 0, 12, 43, 145225),
    datetime.datetime(2262, 4, 11, 23, 47, 16, 854775),
)
_MICROSECONDS = (datetime.datetime.min, datetime.datetime.max)

Value = bool | int | float | str | datetime.date | datetime.datetime


@dataclass(frozen=True)
class Compare:
    """A column compared with a value by ``==``, ``!=``, ``<``, ``<=``, ``>`` or ``>=``."""

    column: str
    operator: str
    value: Value


@dataclass(frozen=True)
class In:
    """A column whose entry is one of some values, or is not."""

    column: str
    values: tuple[Value, ...]
    negated: bool = False


@dataclass(frozen=True)
class Contains:
    """A column of texts that contain a text, or of lists that contain a value; or do not."""

    column: str
    value: Value
    negated: bool = False


@dataclass(frozen=True)
class Empty:
    """A column without an entry, or with one."""

    column: str
    negated: bool = False


@dataclass(frozen=True)
class And:
    """All parts are satisfied."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True)
class Or:
    """Any part is satisfied."""

    parts: tuple[Tree, ...]


Tree = Compare | In | Contains | Empty | And | Or


def parse_filter(where: Any, schema: Any) -> Tree:
    """Return the tree of a filter, after checking it against the columns of a gallery.

    Parameters
    ----------
    where : str
        The filter: comparisons of columns with constants by ``==``, ``!=``, ``<``, ``<=``, ``>``,
        ``>=``, ``in``, ``not in``, ``is None`` and ``is not None``, joined by ``and``, ``or`` and
        ``not``. ``'text' in column`` finds a part of a text or an element of a list.
        ``column('any name')`` stands for a column whose name is not a word.
    schema : pyarrow.Schema
        Columns of the gallery.

    Returns
    -------
    Tree

    Raises
    ------
    TypeError
        If it is not a string.
    ValueError
        If it is too long or too deep, is not a filter, or names a column that does not exist or has
        another type.
    """
    if not isinstance(where, str):
        raise TypeError(f"where must be a string, got {type(where).__name__}; {_HELP}")
    if not where.strip():
        raise ValueError(f"where is empty; {_HELP}")
    if len(where) > LONGEST:
        raise ValueError(f"where must have at most {LONGEST:,} characters, got {len(where):,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in texts
            tree = ast.parse(where.strip(), mode="eval")
    except SyntaxError as error:
        at = f" at character {error.offset}" if error.offset else ""
        raise ValueError(f"where has a syntax error{at}: {shown(where)}; {_HELP}") from None
    except (ValueError, MemoryError, RecursionError):
        raise ValueError(f"where cannot be read: {shown(where)}; {_HELP}") from None
    return _Reader(schema).tree(tree.body, 0)


class _Reader:
    """Reads a syntax tree, node by node from a list of allowed ones."""

    def __init__(self, schema: Any) -> None:
        self.schema = schema

    def tree(self, node: ast.expr, depth: int, negated: bool = False) -> Tree:
        if depth > DEEPEST:
            raise ValueError(f"where is nested more than {DEEPEST} levels deep")
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = tuple(self.tree(value, depth + 1, negated) for value in values)
                return And(parts) if isinstance(op, ast.And) is not negated else Or(parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return self.tree(operand, depth + 1, not negated)
            case ast.Compare(left=left, ops=ops, comparators=others):
                sides = [left, *others]
                parts = tuple(
                    self.comparison(one, op, other, negated)
                    for one, op, other in zip(sides, ops, others)
                )
                if len(parts) == 1:
                    return parts[0]
                return Or(parts) if negated else And(parts)
            case ast.Name() | ast.Call():
                name = self.column(node)
                if not _is("bool", self.type_of(name)) and not _is("null", self.type_of(name)):
                    raise ValueError(
                        f"where: column {name!r} is not true or false, but "
                        f"{self.type_of(name)}; compare it, as in {name} == ..."
                    )
                return Compare(name, "==", not negated)
        raise _not_allowed(node)

    def comparison(self, left: ast.expr, op: ast.cmpop, right: ast.expr, negated: bool) -> Tree:
        if isinstance(op, (ast.In, ast.NotIn)):
            negated = isinstance(op, ast.NotIn) is not negated
            if isinstance(right, (ast.List, ast.Tuple, ast.Set)):
                name = self.column(left)
                if not right.elts:
                    raise ValueError(f"where: the list of values for {name!r} is empty")
                values = tuple(self.value(_constant(each), name) for each in right.elts)
                if _is("integer", self.type_of(name)):
                    values = tuple(each for each in values if not isinstance(each, float))
                if not values:  # no integer is a fraction
                    return Empty(name, True) if negated else _never(name)
                return In(name, values, negated)
            name, value = self.column(right), _constant(left)
            if _is("list", self.type_of(name)):
                inner = self.type_of(name).value_type
                return Contains(name, _converted(value, inner, name), negated)
            if _is("null", self.type_of(name)):
                return Empty(name, True)
            if not _is("string", self.type_of(name)) or not isinstance(value, str):
                raise ValueError(
                    f"where: {shown(value)} in {name} needs a column of texts or lists, and "
                    f"{name!r} is {self.type_of(name)}"
                )
            return Contains(name, value, negated)
        if isinstance(op, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise ValueError("where: `is` compares with None only; use == for other values")
            return Empty(self.column(left), isinstance(op, ast.IsNot) is not negated)
        operator = _OPERATORS[type(op)]
        if not isinstance(left, (ast.Name, ast.Call)):
            left, right, operator = right, left, _TURNED[operator]
        name = self.column(left)
        if isinstance(right, (ast.Name, ast.Call)):
            raise ValueError(
                f"where compares columns with constants, and {self.column(right)!r} is a column"
            )
        value = _constant(right)
        if value is None:
            raise ValueError(f"where: use `{name} is None` or `{name} is not None`")
        value = self.value(value, name)
        if isinstance(value, bool) and operator not in ("==", "!="):
            raise ValueError(f"where: {name!r} is true or false, and has no order")
        operator = _NEGATED[operator] if negated else operator
        if isinstance(value, float) and _is("integer", self.type_of(name)):
            return _between_integers(name, operator, value)
        return Compare(name, operator, value)

    def column(self, node: ast.expr) -> str:
        match node:
            case ast.Name(id=name):
                pass
            case ast.Call(
                func=ast.Name(id="column"), args=[ast.Constant(value=str(name))], keywords=[]
            ):
                pass
            case ast.Call():
                raise ValueError(
                    f"where has no functions but column('name'), got {_source(node)}; {_HELP}"
                )
            case _:
                raise ValueError(f"where expects a column in place of {_source(node)}; {_HELP}")
        if name not in self.schema.names:
            known = ", ".join(self.schema.names) or "none"
            hint = did_you_mean(name, self.schema.names)
            raise ValueError(f"where: there is no column {shown(name)}{hint}; there are: {known}")
        return name

    def type_of(self, name: str) -> Any:
        return self.schema.field(name).type

    def value(self, value: Any, name: str) -> Value:
        return _converted(value, self.type_of(name), name)


def _between_integers(name: str, operator: str, value: float) -> Tree:
    """Return the comparison of integers with a fraction."""
    if operator in ("==", "!="):
        return Empty(name, True) if operator == "!=" else _never(name)
    if operator in (">", ">="):
        return Compare(name, ">", math.floor(value))
    return Compare(name, "<", math.ceil(value))


def _never(name: str) -> Tree:
    return And((Empty(name), Empty(name, True)))


def _constant(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=bool() | int() | float() | str() | None as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            if not isinstance(value, bool):
                return -value
        case ast.Name(id=name):
            raise ValueError(f"where expects a value, got {name}; put a text in quotes: '{name}'")
    raise _not_allowed(node)


def _converted(value: Any, kind: Any, name: str) -> Value:
    """Return a value as one of the type of a column."""
    if value is None:
        raise ValueError(f"where: use `{name} is None` in place of None among values")
    if _is("null", kind):  # all entries are empty, and of any type
        return str(value)
    if _is("bool", kind):
        fits = isinstance(value, bool)
    elif _is("number", kind):
        fits = isinstance(value, (int, float)) and not isinstance(value, bool)
        if fits and isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ValueError(f"where: {shown(value)} is beyond the range of 64-bit integers")
        if fits and _is("integer", kind) and isinstance(value, float):
            if not abs(value) < 2**63:
                raise ValueError(f"where: {value!r} is beyond the range of 64-bit integers")
            return int(value) if value.is_integer() else value
        if fits and not _is("integer", kind):
            return float(value)
    elif _is("string", kind):
        fits = isinstance(value, str)
        if fits:
            try:
                value.encode()
            except UnicodeEncodeError:
                raise ValueError(f"where: {shown(value)} is not valid text") from None
    elif _is("date", kind) or _is("timestamp", kind):
        try:
            moment = datetime.datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"where: column {name!r} is {kind}; compare it with a date such as '2024-05-31', "
                f"not {shown(value)}"
            ) from None
        if _is("timestamp", kind):
            if (kind.tz is None) is not (moment.tzinfo is None):
                if moment.tzinfo is not None:
                    raise ValueError(f"where: column {name!r} has no time zone, {value!r} has one")
                moment = moment.replace(tzinfo=datetime.UTC)
            return _in_range(moment, kind, name)
        if moment.time() != datetime.time():
            raise ValueError(f"where: column {name!r} is of dates, and {value!r} has a time")
        return moment.date()
    else:
        raise ValueError(f"where: column {name!r} is {kind}, which cannot be compared")
    if not fits:
        raise ValueError(f"where: column {name!r} is {kind}, and {shown(value)} is not")
    return value


def _in_range(moment: datetime.datetime, kind: Any, name: str) -> datetime.datetime:
    """Return a moment that a column of timestamps can be compared with."""
    first, last = _NANOSECONDS if kind.unit == "ns" else _MICROSECONDS
    try:
        plain = moment if moment.tzinfo is None else moment.astimezone(datetime.UTC)
        fits = first <= plain.replace(tzinfo=None) <= last
    except OverflowError:  # year 0 or 10000 in UTC
        fits = False
    if not fits:
        raise ValueError(
            f"where: column {name!r} is {kind}, which holds moments from {first.date()} to "
            f"{last.date()}, and not {str(moment)!r}"
        )
    return moment


def _is(kind: str, given: Any) -> bool:
    import pyarrow.types as types

    tests: dict[str, Callable[[Any], bool]] = {
        "null": types.is_null,
        "bool": types.is_boolean,
        "number": lambda t: types.is_integer(t) or types.is_floating(t),
        "integer": types.is_integer,
        "string": lambda t: types.is_string(t) or types.is_large_string(t),
        "date": types.is_date,
        "timestamp": types.is_timestamp,
        "list": lambda t: types.is_list(t) or types.is_large_list(t),
    }
    return tests[kind](given)


def _source(node: ast.AST) -> str:
    return shown(ast.unparse(node)) if not _deep(node) else "a nested expression"


def _deep(node: ast.AST) -> bool:
    return sum(1 for _ in ast.walk(node)) > DEEPEST


def _not_allowed(node: ast.AST) -> ValueError:
    return ValueError(
        f"where allows comparisons of columns with constants, and, or, not and in; got "
        f"{_source(node)}; {_HELP}"
    )


def matching(tree: Tree, table: Any) -> NDArray[np.bool_]:
    """Return which rows of a table satisfy a filter.

    Parameters
    ----------
    tree : Tree
        From `parse_filter`.
    table : pyarrow.Table
        With the columns that the filter names.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    def made(tree: Tree) -> Any:
        if isinstance(tree, (And, Or)):
            join = pc.and_kleene if isinstance(tree, And) else pc.or_kleene
            return reduce(join, map(made, tree.parts))
        column = table[tree.column]
        if isinstance(tree, Empty):
            return column.is_valid() if tree.negated else column.is_null()
        if _is("null", column.type):
            return pa.chunked_array([pa.nulls(len(column), pa.bool_())])
        if isinstance(tree, Compare):
            return _COMPARE[tree.operator](column, pa.scalar(tree.value))
        if isinstance(tree, In):
            found = pc.is_in(*_comparable(column, tree.values))
        elif _is("list", column.type):
            found = _in_lists(column, tree.value)
        else:
            found = pc.match_substring(column, str(tree.value))
        # Arrow takes an empty entry as not in a list; its negation would be satisfied.
        return pc.and_kleene(pc.invert(found) if tree.negated else found, column.is_valid())

    found = pc.fill_null(made(tree), False)
    return np.asarray(found.to_numpy(), bool)


def _compare(name: str) -> Callable[[Any, Any], Any]:
    def call(column: Any, value: Any) -> Any:
        import pyarrow.compute as pc

        return pc.call_function(name, [column, value])

    return call


_COMPARE = {
    "==": _compare("equal"),
    "!=": _compare("not_equal"),
    "<": _compare("less"),
    "<=": _compare("less_equal"),
    ">": _compare("greater"),
    ">=": _compare("greater_equal"),
}


def _comparable(column: Any, values: Sequence[Any]) -> tuple[Any, Any]:
    """Return a column and values of one type."""
    import pyarrow as pa
    import pyarrow.compute

    kind = column.type
    if pa.types.is_floating(kind):
        # Arrow takes -0 as not in a list with 0; the sum of both is 0.
        zero = pa.scalar(0.0)
        found = pa.compute.add(column.cast(pa.float64()), zero)
        return found, pa.array([value + 0.0 for value in values], pa.float64())
    if pa.types.is_integer(kind):
        return column.cast(pa.int64()), pa.array(values, pa.int64())
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz), safe=False), pa.array(
            values, pa.timestamp("us", kind.tz)
        )
    return column, pa.array(values, kind)


def _in_lists(column: Any, value: Value) -> Any:
    """Return which lists have a value among their elements."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = np.zeros(len(column), bool)
    at = 0
    for chunk in column.chunks:
        same = pc.fill_null(pc.equal(pc.list_flatten(chunk), pa.scalar(value)), False)
        rows = pc.list_parent_indices(chunk).filter(same)
        found[at + rows.to_numpy(zero_copy_only=False)] = True
        at += len(chunk)
    return pa.chunked_array([pa.array(found)])
