"""Print what the TIDE authors' package makes of the random cases, for ``TIDECV`` in test_error_kinds.py.

Run in an environment of its own that has tidecv 1.0.1 and pandas, with ``tests`` on ``PYTHONPATH``.
"""

from detection_cases import random_case
from tidecv import TIDE, Data

NAMES = {"Cls": "classification", "Loc": "localization", "Both": "both", "Dupe": "duplicate", "Bkg": "background",
         "Miss": "missed"}  # fmt: skip


def figures(seed):
    """AP at IoU 0.5 and, by kind, count and cost; AP in percent."""
    content, found = random_case(seed)
    truth, predictions = Data("truth"), Data("predictions")
    for category in content["categories"]:
        truth.add_class(category["id"], category["name"])
    for image in content["images"]:
        truth.add_image(image["id"], str(image["id"]))
    for entry in content["annotations"]:
        truth.add_ground_truth(entry["image_id"], entry["category_id"], entry["bbox"])
    for row in found.itertuples():
        predictions.add_detection(row.image_id, row.category_id, row.score, [row.x, row.y, row.w, row.h])
    run = TIDE().evaluate(truth, predictions, pos_threshold=0.5, background_threshold=0.1, mode=TIDE.BOX)
    costs, counts = run.fix_main_errors(), run.count_errors()
    kinds = {NAMES[kind.short_name]: (counts[kind], round(float(costs[kind]), 4)) for kind in costs}
    return round(float(run.ap), 4), kinds


if __name__ == "__main__":
    for number in range(4):
        print(f"    {number}: {figures(number)},")
