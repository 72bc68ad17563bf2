"""Names of detectors in the cost charts."""

import pandas as pd

from cascadebench.report.sections.methods.cost import named_points


def sides(*points: tuple[str, float, float]) -> dict[str, tuple[str, str]]:
    """Alignment of every name in a chart of costs from 0 to 10 and AP from 0 to 10."""
    data = pd.DataFrame(points, columns=["name", "cost", "value"]).assign(low=0.0, high=10.0)
    return {name: side[:2] for side, part in named_points(data, [0.0, 10.0]) for name in part["name"]}


def test_a_name_stands_to_the_right_of_its_point_where_there_is_room() -> None:
    assert sides(("alone", 2, 5)) == {"alone": ("left", "middle")}


def test_a_name_is_not_cut_off_at_the_edge() -> None:
    assert sides(("at the right edge", 9.8, 5)) == {"at the right edge": ("right", "middle")}


def test_a_name_covers_no_other_point() -> None:
    found = sides(("Decoupled R-CNN", 9.5, 5), ("Cascade R-CNN", 7, 5), ("Faster R-CNN", 0.5, 3))
    assert found["Decoupled R-CNN"] in (("right", "bottom"), ("right", "top"))


def test_a_detector_is_named_at_its_best_point() -> None:
    data = pd.DataFrame({"name": ["a", "a"], "cost": [1.0, 2], "value": [3.0, 4], "low": [2.0, 3], "high": [4.0, 5]})
    ((_, part),) = named_points(data, [0.0, 3.0])
    assert part["cost"].tolist() == [2]
