"""Bundles: fitted models on disk as plain values and arrays, which are read and never executed.

A bundle is a folder of three files. ``manifest.json`` lists the types that the model is made of and
holds their parameters and fitted values; ``arrays-<hash>.npz`` holds the arrays; ``README.md``, the
model card, is for people and is never read. A winner has a fourth one, ``record.json``, which
states how it was made. Nothing is pickled. Only types that the registry lists or that the module
`allowed` names are allowed; a type is never imported just because a bundle names it.
"""

from crossfit.persistence.allowed import BundleError
from crossfit.persistence.bundles import load, save

__all__ = ["BundleError", "load", "save"]
