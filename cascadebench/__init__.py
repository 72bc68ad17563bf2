"""CascadeBench: is this detector really better, at which IoU, and because of what it claims?

This package is free of any deep-learning framework: it never imports torch, mmdet, detectron2 or :mod:`adapters`.
"""

__version__ = "0.1.0"
