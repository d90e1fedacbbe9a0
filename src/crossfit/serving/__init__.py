"""The HTTP service: search with a fitted model in one gallery, for people and programs.

`crossfit serve` starts it. The modules by subject: `searcher` (the model), `gallery` (what is
searched), `uploads` (pictures and sounds of strangers), `batching` (one thread that computes),
`service` (what an answer is), `schemas` and `app` (HTTP), `guard` (who may ask for how much) and
`server` (the process).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfit._lazy import attach

_HOMES = {"Limits": "limits", "build_app": "start"}

__all__ = sorted(_HOMES)

__getattr__, __dir__ = attach(__name__, _HOMES)

if TYPE_CHECKING:
    from crossfit.serving.limits import Limits as Limits
    from crossfit.serving.start import build_app as build_app
