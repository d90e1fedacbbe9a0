"""TextTopicNet and SSVR: image networks trained to predict the topics of accompanying texts."""

__version__ = "0.1.0"
