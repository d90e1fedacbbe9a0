"""The size of a fitted method: its networks and their devices, and dimensions of its space."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crossfit.views import Views

__all__ = ["COSTS", "devices_of", "dimensions_of", "parameters_of"]

#: What a setting may cost, by name, with the words for tables; smaller is better.
COSTS = {"seconds": "fit, s", "dimensions": "dimensions", "parameters": "parameters"}


def parameters_of(model: Any) -> int | None:
    """Return the number of parameters of the networks of a model; None if it has none."""
    networks = _networks_of(model)
    if not networks:
        return None
    return sum(each.numel() for network in networks for each in network.parameters())


def devices_of(model: Any) -> list[str]:
    """Return the devices that hold the networks of a model: ``cpu``, or the name of a GPU."""
    found = {each.device for network in _networks_of(model) for each in network.parameters()}
    return sorted({_name_of(device) for device in found})


def _networks_of(model: Any) -> list[Any]:
    parts = [model, *model.get_params(deep=True).values()]
    networks = {
        id(part): part.net_.module_
        for part in parts
        if hasattr(getattr(part, "net_", None), "module_")
    }
    return list(networks.values())


def _name_of(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device.type)


def dimensions_of(model: Any, views: Views) -> int | None:
    """Return the number of columns of a common space; None if it does not consist of vectors.

    Parameters
    ----------
    model : estimator
        A fitted method or pipeline.
    views : Views
        Any items of its views, of which two are encoded.
    """
    from crossfit.querying import answering, encode, view_names
    from crossfit.views import take_rows

    fitted = view_names(answering(model)[1])
    name = next(name for name in views.names if name in fitted)
    try:
        few = encode(model, take_rows(views.distinct(name)[0], slice(0, 2)), name)
        return int(few.shape[1])
    except (ValueError, TypeError, AttributeError, IndexError):
        return None
