"""The size of a resized image: one rule for every framework."""


def resized_shape(width: int, height: int, short_side: int, max_long_side: int) -> tuple[int, int]:
    """Width and height after scaling the shorter side to `short_side`, the longer never above `max_long_side`.

    The ratio is kept and each side is rounded half up, as in both frameworks.
    """
    scale = short_side / min(width, height)
    if max(width, height) * scale > max_long_side:
        scale = max_long_side / max(width, height)
    return int(width * scale + 0.5), int(height * scale + 0.5)
