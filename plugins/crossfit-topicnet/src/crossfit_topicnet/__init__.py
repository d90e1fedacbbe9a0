"""TextTopicNet and SSVR: a network for pictures learns the topics of the texts around them."""

__version__ = "0.1.0"
