"""Gap curves: by how much the last stage of a cascade is better than the others, at every IoU threshold."""

from collections.abc import Iterator

import pandas as pd

GAP_COLUMNS = ("run", "label", "framework", "backbone", "seed", "gap", "iou", "gap_ap")
_CONDITIONS = ["framework", "backbone", "seed"]


def stage_label(stage: int, classifiers: int) -> str:
    """Label of the test stage that stands for a stage of a cascade, counted from 1.

    It is ``(2,2)``, or ``(2,1)`` in a detector with one classifier: the last classifier up to this stage.
    """
    return f"({stage},{min(stage, classifiers)})"


def gap_curves(curves: pd.DataFrame, runs: pd.DataFrame, baseline: str) -> pd.DataFrame:
    """Differences of AP between test stages.

    With T stages, a run has the gaps ``stage T - stage t`` for every earlier t, ``stage T - baseline``, and
    ``<headline test stage> - baseline``. Stage t is the test stage of :func:`stage_label`; the baseline is the headline
    test stage of the run of that label with the same framework, backbone and seed. A run with one stage has the last of
    these gaps only, and the baseline has none against itself.

    Parameters
    ----------
    curves : DataFrame
        run, test_stage, iou, ap (of all categories); one row each.
    runs : DataFrame
        run, label, framework, backbone, seed, stages and classifiers (int), headline (label of a test stage); one row
        per run.
    baseline : str
        Label of the baseline in `runs`.

    Returns
    -------
    DataFrame
        run, label, framework, backbone, seed, gap (text such as ``stage 3 - stage 2``), iou, gap_ap (difference of AP
        in [-1, 1]). A gap for which `curves` lacks one of the two is left out.
    """
    by_iou = curves.pivot(index=["run", "test_stage"], columns="iou", values="ap")
    baselines = {_conditions(run): run for run in runs.itertuples() if run.label == baseline}
    rows = []
    for run in runs.itertuples():
        for gap, minuend, subtrahend in _gaps_of(run, baselines.get(_conditions(run))):
            if minuend in by_iou.index and subtrahend in by_iou.index:
                difference = by_iou.loc[minuend] - by_iou.loc[subtrahend]
                about = (run.run, run.label, *_conditions(run), gap)
                rows += [(*about, iou, value) for iou, value in difference.items()]
    return pd.DataFrame(rows, columns=GAP_COLUMNS)


def _conditions(run: tuple) -> tuple:
    """What a run shares with the baseline that it is compared with."""
    return tuple(getattr(run, name) for name in _CONDITIONS)


def _gaps_of(run: tuple, baseline: tuple | None) -> Iterator[tuple[str, tuple[str, str], tuple[str, str]]]:
    """Name, minuend and subtrahend, each a run and a test stage, of every gap that a run may have."""
    last = run.run, stage_label(run.stages, run.classifiers)
    for stage in range(run.stages - 1, 0, -1):
        yield f"stage {run.stages} - stage {stage}", last, (run.run, stage_label(stage, run.classifiers))
    if baseline is None or baseline.run == run.run:
        return
    reference = baseline.run, baseline.headline
    if run.stages > 1:
        yield f"stage {run.stages} - baseline", last, reference
    yield f"{run.headline} - baseline", (run.run, run.headline), reference
