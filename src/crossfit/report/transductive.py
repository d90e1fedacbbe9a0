"""Methods whose scores of one query depend on the other test queries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crossfit.report.format import listed
from crossfit.report.leaderboard import Board, Row

__all__ = ["transductive"]


def transductive(board: Board) -> str:
    """Return a sentence on methods that rank all test queries together; empty if there are none.

    Parameters
    ----------
    board : Board
        The methods of a data set.

    Returns
    -------
    str
    """
    found = [row.label for row in board.rows if _is_transductive(row)]
    if not found:
        return ""
    return (
        f"Transductive: {listed(found)}. The scores of a query depend on the other test queries, "
        "so that these figures cannot be compared with those of methods that rank one query at a "
        "time."
    )


def _is_transductive(row: Row) -> bool:
    return _ranks_together(row.params, row.params, "")


def _ranks_together(method: Mapping[str, Any], chosen: Mapping[str, Any], prefix: str) -> bool:
    """Return True if a method, or one that it holds, has such a similarity."""
    given = method.get("similarity")
    if isinstance(given, Mapping):
        name = str(given.get("class", given.get("name", ""))).rpartition(":")[2]
    else:
        name = str(given)
    # A choice among similarities that tuning made.
    name = str(chosen.get(f"{prefix}scorer__similarity", name))
    if name != "None" and _needs_all_queries(name):
        return True
    members: Mapping[str, Any] = method.get("members") or {}
    return any(
        _ranks_together(member, chosen, f"{prefix}{key}__") for key, member in members.items()
    )


def _needs_all_queries(similarity: str) -> bool:
    from crossfit.retrieval.hubs import CORRECTIONS  # imports scikit-learn; runs have no similarity

    named = {**CORRECTIONS, **{cls.__name__: cls for cls in CORRECTIONS.values()}}
    return similarity in named and bool(named[similarity].transductive)
