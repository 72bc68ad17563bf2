"""summary.json as a page of Markdown."""

from typing import Any

from cascadebench.metrics.coco.rules import AP_AT_IOU

QUANTITIES = ["AP", *AP_AT_IOU]
ALL_IOUS = "0.50-0.95"
"""The mean over all thresholds, as intervals.csv calls it."""
NO_GPU = "A trial of the steps on the CPU: no figure here says anything about a GPU."


def markdown_table(heads: list[str], lines: list[list[Any]]) -> list[str]:
    """Lines of a Markdown table; an empty cell is a dash."""
    cells = [[_cell(value) for value in line] for line in lines]
    return ["", *(f"| {' | '.join(line)} |" for line in [heads, ["-"] * len(heads), *cells]), ""]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value).replace("|", "\\|")


def accuracy_lines(found: dict[str, Any]) -> list[str]:
    """AP by IoU, and gaps to the baseline with their intervals, in points."""
    keys = ("label", "framework", "seed", *QUANTITIES)
    scores = [[one[key] for key in keys] for one in found["ap"] or []]
    gaps: dict[tuple[str, str, str], dict[str, str]] = {}
    for one in found["gaps"] or []:
        ends = [one[name] for name in ("value", "low", "high")]
        if one["gap"].endswith(" - baseline") and None not in ends:
            cells = gaps.setdefault((one["label"], one["framework"], one["gap"]), {})
            cells[one["quantity"]] = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * end for end in ends))
    columns = (ALL_IOUS, *AP_AT_IOU)
    lines = [[*key, *(cells.get(column) for column in columns)] for key, cells in gaps.items()]
    return [
        "## Accuracy",
        *markdown_table(["detector", "framework", "seed", *QUANTITIES], scores),
        "AP minus the baseline's, in points, with 95% intervals:",
        *markdown_table(["detector", "framework", "gap", *columns], lines),
    ]


def cost_lines(found: dict[str, Any]) -> list[str]:
    """Times and memory: alone, and in the study with several trainings at a time."""
    alone = [
        [name, one["seconds_per_iteration"], one["images_per_second"], one["peak_memory_mb"],
         (one["gpu"] or {}).get("use_mean"), (one["gpu"] or {}).get("memory_max")]
        for name, one in (found["throughput"] or {}).items()
    ]  # fmt: skip
    heads = ["detector alone", "s/iteration", "images/s", "peak memory, MB", "GPU use, %", "GPU memory, MiB"]
    together = [
        [one["label"], one["framework"], one["seed"], one["seconds_per_iteration"], one["peak_memory_mb"],
         one["seconds_per_image"]]
        for one in found["cost"] or []
    ]  # fmt: skip
    names = ["detector in the study", "framework", "seed", "s/iteration", "peak memory, MB", "prediction, s/image"]
    keys = ("use_mean", "power_mean", "clock_mean", "memory_max", "samples")
    steps = [[step, *(one[key] for key in keys)] for step, one in found["gpu"].items() if one]
    whole = ["whole step", "GPU use, %", "power, W", "clock, MHz", "memory, MiB", "samples"]
    tables = ((heads, alone), (names, together), (whole, steps))
    return ["## Cost", *(line for one in tables for line in markdown_table(*one))]


def parity_lines(found: dict[str, Any]) -> list[str]:
    """Greatest differences between the CPU and the device."""
    lines = []
    for variant, sides in (found["parity"] or {"variants": {}})["variants"].items():
        for side, one in sides.items():
            proposals = one.get("proposals", {})
            places = [proposals.get("without_partner"), proposals.get("pixels")]
            steps = [one.get("losses_relative"), one.get("gradient_relative")]
            lines.append([variant, side, one["features"], *places, one["boxes"], one["logits"], *steps])
    heads = ["variant", "framework", "features", "proposals without partner", "proposals, px", "boxes, px", "logits",
             "losses, relative", "gradient, relative"]  # fmt: skip
    return ["## CPU and device", *markdown_table(heads, lines)]


def resume_lines(found: dict[str, Any]) -> list[str]:
    """Killed and resumed, beside two trainings that ran through."""
    lines = []
    for framework, one in (found["resume"] or {}).items():
        for name in ("killed_to_through", "again_to_through"):
            apart = one[name]
            lines.append(
                [framework, name.replace("_", " "), one["killed_after"], one["final_iteration"],
                 str(one["every_iteration_once"]), str(apart["same_images"]), apart["loss_greatest_relative"],
                 apart["mean_loss_of_last_quarter_relative"], apart["weights_greatest"]]
            )  # fmt: skip
    heads = ["framework", "trainings", "killed after", "final iteration", "every iteration once", "same images",
             "loss, greatest relative", "last quarter's mean loss, relative", "weights, greatest"]  # fmt: skip
    return ["## Killed and resumed", *markdown_table(heads, lines)]


def page(found: dict[str, Any]) -> str:
    """The same in Markdown."""
    of_study, of_machine = found["study"], found["machine"]
    lines = ["# One GPU" if found["kind"] == "gpu" else "# Trial", ""]
    if found["kind"] != "gpu":
        lines += [f"**{NO_GPU}**", ""]
    lines += [
        f"- {found['date']}, {of_machine['device']}, driver {of_machine['driver'] or '-'}, "
        f"Python {of_machine['python']}",
        "- " + ", ".join(f"{name} {version}" for name, version in of_machine["versions"].items() if version),
        "- " + ", ".join(f"{name}: {value}" for name, value in of_machine["arithmetic"].items()),
        f"- {of_study['dataset']}, protocol {of_study['protocol']}, {', '.join(of_study['backbones'])}, "
        f"{of_study['iterations']} iterations of {of_study['batch_size']} images, seeds {of_study['seeds']}, "
        f"trainings at a time: {of_study['trainings_at_a_time'] or '-'}",
        "- runs: " + (", ".join(f"{number} {state}" for state, number in (found["runs"] or {}).items()) or "none"),
        "- not done: " + (", ".join(found["not_done"]) or "nothing"),
        "",
    ]
    parts = (accuracy_lines, cost_lines, parity_lines, resume_lines)
    return "\n".join(lines + [line for part in parts for line in part(found)]) + "\n"
