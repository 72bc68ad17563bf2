"""Charts of the trainings: loss and learning rate of every run."""

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.report.data.study_results import StudyResults
from cascadebench.report.parts.charts import Encodings, Figure, Panel, panel

POINTS_PER_CURVE, POINTS_PER_FIGURE = 200, 6000
"""Longer training logs are thinned to this: a report must stay light in the browser."""


def _mean_losses(log: pd.DataFrame, every: int) -> pd.DataFrame:
    """One point for `every` iterations: the mean of their losses, at the first of them."""
    parts = log["iteration"].to_numpy() // every
    firsts = np.flatnonzero(np.diff(parts, prepend=-1))
    means = np.add.reduceat(log["loss"].to_numpy(), firsts) / np.diff(firsts, append=len(parts))
    return pd.DataFrame({"iteration": log["iteration"].to_numpy()[firsts], "value": means})


def _turning_rates(log: pd.DataFrame, every: int) -> pd.DataFrame:
    """The learning rate of each part of `every` iterations, without points amid equal ones: the line is the same."""
    parts = log["iteration"].to_numpy() // every
    points = log[["iteration", "lr"]].iloc[np.flatnonzero(np.diff(parts, prepend=-1))]
    rates = points["lr"].to_numpy()
    turns = np.concatenate([[True], rates[1:-1] != rates[:-2], [True]])[: len(rates)]
    turns[:-1] |= rates[:-1] != rates[1:]
    return points[turns].rename(columns={"lr": "value"})


def _iterations_per_point(results: StudyResults) -> int:
    if not results.study.protocol:  # a study of imported detections alone
        return 1
    points = max(20, min(POINTS_PER_CURVE, POINTS_PER_FIGURE // len(results.runs)))
    return -(-results.study.protocol.schedule.iterations // points)


def _training_curves(results: StudyResults, value: str, axis: str, widths: tuple[float, float]) -> tuple[Panel, ...]:
    """One panel per framework with a line per run, as wide as `widths` for the first and for the last variant."""
    panels, thinned = [], _mean_losses if value == "loss" else _turning_rates
    every, labels = _iterations_per_point(results), results.labels
    step = (widths[1] - widths[0]) / max(1, len(labels) - 1)
    width_scale = alt.Scale(
        type="ordinal", domain=labels, range=[round(widths[0] + step * i, 2) for i in range(len(labels))]
    )
    for title, detectors in results.panels():
        logs = [
            thinned(record.log, every).assign(label=detector.label, seed=record.run.seed)
            for detector in detectors
            for record in detector.runs
            if len(record.log)
        ]
        if not logs:
            continue
        data = pd.concat(logs, ignore_index=True)
        data["value"] = data["value"].map(lambda number: float(f"{number:.4g}"))
        encodings = Encodings(labels, data["label"])
        tooltip = [
            alt.Tooltip("label:N", title="Detector"),
            alt.Tooltip("seed:N", title="Seed"),
            alt.Tooltip("iteration:Q", title="Iteration"),
            alt.Tooltip("value:Q", title=axis),
        ]
        x = alt.X("iteration:Q", title="Iteration", axis=alt.Axis(tickCount=6, format="~s"))
        y = alt.Y("value:Q", title=axis, scale=alt.Scale(zero=True))
        width = alt.StrokeWidth("label:O", scale=width_scale, legend=encodings.legend)
        common = {"color": encodings.color, "strokeDash": encodings.dash, "strokeWidth": width, "detail": "seed:N"}
        # Lines of several seeds lie over each other: through paler ones the others show.
        opacity = 0.6 if results.several_seeds else 1
        chart = alt.Chart(data).mark_line(opacity=opacity).encode(x=x, y=y, tooltip=tooltip, **common)
        description = f"{title}: {axis.lower()} over the iterations of the training, one line per run."
        panels.append(panel(f"training-{value}-{len(panels) + 1}", title, description, chart, height=200))
    return tuple(panels)


def loss_figure(results: StudyResults) -> Figure:
    """Total training loss of every run."""
    every = _iterations_per_point(results)
    caption = f"Total loss of every run, each point the mean of {every} iterations." if every > 1 else "Total loss."
    return Figure("training-loss", caption, "training-ends", _training_curves(results, "loss", "Loss", (1.5, 1.5)))


def learning_rate_figure(results: StudyResults) -> Figure:
    """Learning rate that every run's optimizer used."""
    caption = "Learning rate as the optimizer used it. Lines that coincide are drawn over each other, the widest first."
    panels = _training_curves(results, "lr", "Learning rate", (5, 1.5))
    return Figure("learning-rate", caption, "training-ends", panels)
