"""From a folder and a gallery to an application."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from crossfit.serving.limits import Limits

__all__ = ["build_app", "check_installed"]

_INSTALL = "serving needs FastAPI and uvicorn; pip install 'crossfit-retrieval[serve]'"


# Number of items that a second model ranks by default.
_DEPTH = 100


def check_installed(*modules: str) -> None:
    """Raise an ImportError that names the extra if a package of the service is not installed.

    Parameters
    ----------
    *modules : str
        Further modules that are needed.
    """
    try:
        # FastAPI imports python_multipart only when a form arrives.
        for module in ("python_multipart", "crossfit.serving.app", *modules):
            import_module(module)
    except ImportError as error:
        raise ImportError(_INSTALL) from error


def build_app(
    bundle: str | os.PathLike[str],
    gallery: str | os.PathLike[str],
    *,
    view: str | None = None,
    rerank: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
) -> Any:
    """Build the application of `crossfit serve`, for any ASGI server.

    Parameters
    ----------
    bundle : path-like
        Folder of a fitted model, as `crossfit.save` or ``crossfit fit --save`` wrote it, or its
        address on the Hugging Face Hub.
    gallery : path-like
        What is searched: an index, a folder of pictures or sounds, or a table.
    view : str, optional
        The view of the gallery; by default the only one of its kind.
    rerank : path-like, optional
        Likewise, a second model, which ranks the best items of the first again.
    limits : Limits, optional
        What a request may cost.
    token : str, optional
        What every request must have in the header ``Authorization: Bearer``.
    hosts : tuple of str, default=()
        Names of the service in the header Host, in addition to those of this machine.

    Returns
    -------
    ASGI application

    Raises
    ------
    ValueError, OSError
        If the bundle or the gallery cannot be read, or do not belong together.
    ImportError
        If FastAPI is not installed.

    See Also
    --------
    Limits : What a request may cost.
    """
    check_installed()
    from crossfit.serving.app import make_app
    from crossfit.serving.galleries import open_gallery
    from crossfit.serving.searcher import Searcher
    from crossfit.serving.service import Service

    searcher = Searcher.load(bundle)
    if rerank is not None:
        second = Searcher.load(rerank)
        searcher = searcher.with_second(second.winner, _DEPTH)
    service = Service(searcher, open_gallery(searcher, gallery, view), limits)
    return make_app(service, token=token, hosts=hosts)
