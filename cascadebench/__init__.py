"""CascadeBench: is this detector really better, at which IoU, and for the reasons its paper gives?

``evaluate`` and ``compare`` work on files from anywhere; they load neither a framework nor what studies need. This
package never imports torch, mmdet, detectron2 or :mod:`adapters`.

Examples
--------
>>> from cascadebench import compare, evaluate
>>> evaluate("val.json", "model.json")[""]["AP75"]  # doctest: +SKIP
0.412
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cascadebench.metrics.coco.evaluate_files import evaluate_files as evaluate
    from cascadebench.uncertainty.compare_files import compare_files as compare

__all__ = ["__version__", "compare", "evaluate"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the evaluator when it is asked for: planning a study imports this package, too, and does without numba."""
    if name == "evaluate":
        from cascadebench.metrics.coco.evaluate_files import evaluate_files

        return evaluate_files
    if name == "compare":
        from cascadebench.uncertainty.compare_files import compare_files

        return compare_files
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
