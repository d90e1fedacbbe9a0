"""Views: named modalities aligned by row, and Ragged: rows of unequal length."""

from crossfit._arrays import as_numpy, is_tensor
from crossfit.views._rows import can_be_shown as can_be_shown
from crossfit.views._rows import n_rows, take_rows
from crossfit.views.container import Channels, Views, check_columns, is_views, item_weights
from crossfit.views.ragged import Ragged, as_float, without_padding

__all__ = [
    "Channels",
    "Ragged",
    "Views",
    "as_float",
    "as_numpy",
    "check_columns",
    "is_tensor",
    "is_views",
    "item_weights",
    "n_rows",
    "take_rows",
    "without_padding",
]
