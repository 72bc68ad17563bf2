"""Training: loss and learning rate of every run, and whether they are what the protocol says."""

import math
from collections.abc import Iterator
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from cascadebench.report.data.study_results import RunRecord, StudyResults
from cascadebench.report.parts.cells import Cell, Column, Table, listing, number_cell, plain
from cascadebench.report.parts.charts import Drawing, Encodings, Figure, figure, tooltips
from cascadebench.report.parts.detector_rows import run_groups
from cascadebench.report.parts.section import Section, has_runs

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
    points = max(20, min(POINTS_PER_CURVE, POINTS_PER_FIGURE // len(results.runs)))
    return -(-results.study.protocol.schedule.iterations // points)


def _drawings(results: StudyResults, value: str, axis: str, widths: tuple[float, float]) -> Iterator[Drawing]:
    """One panel per framework with a line per run, as wide as `widths` for the first and for the last variant."""
    thinned = _mean_losses if value == "loss" else _turning_rates
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
        tooltip = tooltips(("label:N", "Detector"), ("seed:N", "Seed"), ("iteration:Q", "Iteration"), ("value:Q", axis))
        x = alt.X("iteration:Q", title="Iteration", axis=alt.Axis(tickCount=6, format="~s"))
        y = alt.Y("value:Q", title=axis, scale=alt.Scale(zero=True))
        width = alt.StrokeWidth("label:O", scale=width_scale, legend=encodings.legend)
        common = {"color": encodings.color, "strokeDash": encodings.dash, "strokeWidth": width, "detail": "seed:N"}
        # Lines of several seeds lie over each other: through paler ones the others show.
        opacity = 0.6 if results.several_seeds else 1
        chart = alt.Chart(data).mark_line(opacity=opacity).encode(x=x, y=y, tooltip=tooltip, **common)
        description = f"{title}: {axis.lower()} over the iterations of the training, one line per run."
        yield Drawing(title, description, chart, height=200)


def loss_figure(results: StudyResults) -> Figure:
    """Total training loss of every run."""
    every = _iterations_per_point(results)
    caption = f"Total loss of every run, each point the mean of {every} iterations." if every > 1 else "Total loss."
    return figure("training-loss", caption, "training-ends", _drawings(results, "loss", "Loss", (1.5, 1.5)))


def learning_rate_figure(results: StudyResults) -> Figure:
    """Learning rate that every run's optimizer used."""
    caption = "Learning rate as the optimizer used it. Lines that coincide are drawn over each other, the widest first."
    drawings = _drawings(results, "lr", "Learning rate", (5, 1.5))
    return figure("learning-rate", caption, "training-ends", drawings, panels="training-lr")


def training_table(results: StudyResults) -> Table:
    """Loss and learning rate at both ends of every training."""

    def cells(record: RunRecord) -> tuple[Cell, ...]:
        if not len(record.log):
            return ()
        losses, last = record.log["loss"], record.log.iloc[-1]
        share = max(1, len(losses) // 20)
        iterations = f"{last['iteration'] + 1:.0f} of {record.run.protocol.schedule.iterations}"
        ends = (number_cell(part.mean(), digits=3) for part in (losses.head(share), losses.tail(share)))
        return (Cell(iterations), *ends, Cell(plain(last["lr"]), value=float(last["lr"])))

    titles = ("Iterations", "First loss", "Last loss", "Last learning rate")
    caption = "The total loss as mean over the first and over the last 5 % of the logged iterations."
    columns = (Column("Run", kind="text"), *map(Column, titles))
    return Table("training-ends", caption, columns, run_groups(results, cells))


def learning_rate_check(results: StudyResults) -> str | None:
    """Whether the logged learning rates are those of the protocol."""
    logged = [record for record in results.runs if len(record.log)]
    if not logged:
        return None
    wrong = [record.id for record in logged if not _follows_protocol(record)]
    if wrong:
        return f"In {len(wrong)} of {len(logged)} runs a logged learning rate is not the protocol's: {listing(wrong)}."
    return f"In all {len(logged)} logged runs the learning rate equals the protocol's at every logged iteration."


def _follows_protocol(record: RunRecord) -> bool:
    rates = zip(record.log["iteration"], record.log["lr"], strict=True)
    wanted = record.run.protocol.schedule.learning_rate
    return all(math.isclose(rate, wanted(iteration), rel_tol=1e-6) for iteration, rate in rates)


def consumption_check(results: StudyResults) -> str | None:
    """Whether the runs of one seed trained on the same images, by what the batches of every step said."""
    trained = [record for record in results.runs if record.files["trained"]]
    if not trained:
        return None
    consumed: dict[int, dict[str, list[str]]] = {}
    unplanned, unrecorded = [], []
    for record in trained:
        found, planned = (record.files["trained"].get(f"{word}_sha256") for word in ("consumed", "planned"))
        if not found or not planned:
            unrecorded.append(record.id)
            continue
        consumed.setdefault(record.run.seed, {}).setdefault(str(found), []).append(record.id)
        if found != planned:
            unplanned.append(record.id)
    seeds = [str(seed) for seed, chains in consumed.items() if len(chains) > 1]
    told = []
    if unplanned:
        told.append(f"Not trained on the planned images, flips and sizes: {listing(unplanned)}.")
    if seeds:
        told.append(f"The runs of seed {listing(seeds)} did not train on the same images, flips and sizes.")
    recorded = len(trained) - len(unrecorded)
    if recorded and not told:
        told.append(
            f"What {recorded} trained {'run' if recorded == 1 else 'runs'} were given, step by step as the batches "
            "said it (images, flips, sizes), is what was planned, and the same for all runs of a seed."
        )
    if unrecorded:
        told.append(f"Of {len(unrecorded)} trained runs it is not recorded what they were given.")
    return " ".join(told)


def build(results: StudyResults) -> dict[str, Any]:
    """What was checked, the curves, and their ends."""
    return {
        "checks": [learning_rate_check(results), consumption_check(results)],
        "loss": loss_figure(results),
        "learning_rate": learning_rate_figure(results),
        "ends": training_table(results),
    }


SECTION = Section("training", "Training", build, needs=has_runs)
