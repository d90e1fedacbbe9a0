"""The named similarities for rows that are tensors, computed on their device in float64."""

from __future__ import annotations

import sys
from typing import Any

from crossfit._arrays import as_numpy, check_tensor, in_rows, is_tensor

__all__ = ["block", "compared", "on_a_device"]


def on_a_device(*given: Any) -> bool:
    """Return True if all of some values are tensors."""
    return all(is_tensor(part) for part in given)


def compared(A: Any, B: Any, measure: str) -> tuple[Any, Any]:
    """Return both as float64 rows, prepared for the block function of a measure."""
    a, b = _finite_rows(A, "first"), _finite_rows(B, "second")
    if a.device != b.device:
        raise ValueError(
            f"a similarity compares tensors of one device, got {a.device} and {b.device}; move "
            "one of them by to(...)"
        )
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            "a similarity compares rows of a common space, so both arrays must have the same "
            f"number of columns, got {a.shape[1]} and {b.shape[1]}"
        )
    left, right = _SIDES.get(measure, (_same, _same))
    return left(a), right(b)


def block(measure: str, p: Any, q: Any) -> Any:
    """Return the similarities of prepared rows as float32, checked to be finite."""
    torch = sys.modules["torch"]
    if measure == "l2":
        found = -torch.cdist(p, q, compute_mode="donot_use_mm_for_euclid_dist")
    elif measure == "l1":
        found = -torch.cdist(p, q, p=1)
    else:
        found = p @ q.T
    scores = found.to(torch.float32)
    if not bool(torch.isfinite(scores).all()):
        raise ValueError(
            f"the {measure} similarity of rows with such large entries exceeds the range of "
            f"scores, {torch.finfo(torch.float32).max:.2g}; scale the rows"
        )
    return scores


def _finite_rows(values: Any, which: str) -> Any:
    torch = sys.modules["torch"]
    check_tensor(values, f"the {which} array")
    rows = values.detach()
    if rows.ndim != 2 or rows.is_complex():
        raise ValueError(
            f"a similarity expects numeric arrays of shape (n, d), got shape {tuple(rows.shape)} "
            f"of type {rows.dtype} as the {which} array"
        )
    rows = rows.to(torch.float64)
    finite = torch.isfinite(rows).all(dim=1)
    if not bool(finite.all()):
        bad = as_numpy((~finite).nonzero()[:, 0])
        raise ValueError(
            f"a similarity expects finite rows, got NaN or infinity in the {which} array, in "
            f"{in_rows(bad, len(rows))}"
        )
    return rows


def _same(z: Any) -> Any:
    return z


def _unit(z: Any) -> Any:
    """Return rows of length 1; rows of zeros stay as they are."""
    torch = sys.modules["torch"]
    # Divided by the largest entry first, whose squares neither overflow nor vanish.
    largest = z.abs().amax(dim=1, keepdim=True) if z.shape[1] else z.new_zeros((len(z), 1))
    extreme = (largest > 1e140) | ((largest < 1e-140) & (largest > 0))
    z = torch.where(extreme, z / torch.where(extreme, largest, 1.0), z)
    norms = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return torch.where(norms > 0, z / torch.where(norms > 0, norms, 1.0), 0.0)


def _centred_unit(z: Any) -> Any:
    torch = sys.modules["torch"]
    centred = z - z.mean(dim=1, keepdim=True)
    # A constant row is not correlated with any other; only rounding errors are left of it.
    norms = (torch.linalg.vector_norm(part, dim=1, keepdim=True) for part in (centred, z))
    left, whole = norms
    return _unit(torch.where(left <= 1e-12 * whole, 0.0, centred))


def _distribution(z: Any) -> Any:
    if bool((z < 0).any()):
        raise ValueError(
            f"KL compares probabilities and needs entries of at least 0, got {float(z.min()):.3g}"
        )
    total = z.sum(dim=1, keepdim=True)
    if bool((total == 0).any()):
        raise ValueError("KL compares probabilities and needs positive rows, got rows of zeros")
    return z / total


def _entropy_and_p(z: Any) -> Any:
    torch = sys.modules["torch"]
    p = _distribution(z)
    return torch.cat([-torch.xlogy(p, p).sum(dim=1, keepdim=True), p], dim=1)


def _one_and_log_q(z: Any) -> Any:
    torch = sys.modules["torch"]
    q = _distribution(z)
    return torch.cat([torch.ones_like(q[:, :1]), torch.log(q + 1e-12)], dim=1)


_SIDES = {
    "cosine": (_unit, _unit),
    "correlation": (_centred_unit, _centred_unit),
    "kl": (_entropy_and_p, _one_and_log_q),
    "kl_reversed": (_one_and_log_q, _entropy_and_p),
}
