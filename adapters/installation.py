"""``python -m adapters.installation``: one line each about GPUs and operators, for ``cascadebench doctor``."""

import importlib

import torch

TITLES = {"mmdet": "mmcv", "detectron2": "Detectron2"}


def main() -> None:
    """Print ``subject|state`` lines; a framework that cannot be imported ends in its traceback."""
    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    print(f"GPUs|{', '.join(gpus) or 'none'}")
    for framework, title in TITLES.items():
        operators = importlib.import_module(f"adapters.{framework}.operators")
        importlib.import_module(f"adapters.{framework}.adapter")
        print(f"{title} operators|{operators.operators_in_use()}")


if __name__ == "__main__":
    main()
