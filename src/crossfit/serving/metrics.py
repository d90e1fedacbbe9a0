"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from crossfit.serving.service import Service

__all__ = ["Metrics"]

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The figures of one service.

    Parameters
    ----------
    service : Service
        The service, whose batches and queue are observed.
    """

    media_type = CONTENT_TYPE_LATEST

    def __init__(self, service: Service) -> None:
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "crossfit_requests", "Requests.", ("method", "route", "status"), registry=registry
        )
        self.seconds = Histogram(
            "crossfit_request_seconds", "Duration of requests.", ("route",), registry=registry,
            buckets=_SECONDS,
        )  # fmt: skip
        batches = Histogram(
            "crossfit_batch_requests", "Requests per batch.", registry=registry,
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
        )  # fmt: skip
        service.on_batch = batches.observe
        queue = Gauge("crossfit_queue_queries", "Queries in work or waiting.", registry=registry)
        queue.set_function(lambda: service.room.taken)
        items = Gauge("crossfit_gallery_items", "Items of the gallery.", registry=registry)
        items.set_function(lambda: len(service.gallery))

    def text(self) -> bytes:
        """Return the figures in the text format of Prometheus."""
        return generate_latest(self._registry)
