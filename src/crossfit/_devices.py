"""The choice of the device for a network."""

from __future__ import annotations

__all__ = ["resolve_device"]


def resolve_device(device: str) -> str:
    """Return a torch device name; ``"auto"`` is CUDA if present.

    Raises
    ------
    ValueError
        If torch has no such device, or there is none here.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise ValueError(f"device must be 'auto' or a torch device, got {device!r}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device: {device!r} is not available: torch finds no CUDA device; use 'auto' or 'cpu'"
        )
    if kind != "cpu":
        try:
            usable = kind != "meta" and torch.zeros(1, device=device).sum().item() == 0
        except Exception as error:  # of torch's many devices, each has its own
            raise ValueError(
                f"device: {device!r} cannot be used by torch; use 'auto' or 'cpu'"
            ) from error
        if not usable:
            raise ValueError(f"device: {device!r} holds no numbers; use 'auto' or 'cpu'")
    return device
