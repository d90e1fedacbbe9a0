"""Cards of the methods and their experiments."""

from __future__ import annotations
