"""Networks that rank matching pairs above others."""

__version__ = "0.1.0"
