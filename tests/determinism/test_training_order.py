"""Common random numbers: images, flips and sizes from the seed alone."""

from pathlib import Path

import numpy as np
import pytest

from cascadebench.datasets.prepared import ImageRecord
from cascadebench.determinism.training_order import (
    consumed_chain,
    planned_chains,
    resized_shape,
    sampling_seed,
    step_seed,
    training_order,
)
from cascadebench.study.study_file import load_protocol


def records(number: int, portrait_every: int = 3) -> list[ImageRecord]:
    """Image records without pictures; every third is portrait."""
    no_boxes, no_labels = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    sizes = [(60, 80) if i % portrait_every == 0 else (80, 60) for i in range(number)]
    return [ImageRecord(i, Path("x"), *sizes[i], no_boxes, no_labels) for i in range(number)]


def protocol(**input_settings):
    """Return the tiny protocol with 300 iterations."""
    override = {"schedule": {"iterations": 300, "batch_size": 4, "steps": [200]}, "input": input_settings}
    return load_protocol("tiny", override, "test")


def test_the_same_seed_gives_the_same_order_and_another_another():
    images = records(50)
    assert training_order(images, protocol(), 7).digest() == training_order(images, protocol(), 7).digest()
    assert training_order(images, protocol(), 7).digest() != training_order(images, protocol(), 8).digest()


def test_batches_hold_images_of_one_orientation():
    images = records(50)
    order = training_order(images, protocol(), 0)
    portrait = np.array([record.width < record.height for record in images])
    assert (portrait[order.images].all(1) | ~portrait[order.images].any(1)).all()
    mixed = training_order(images, protocol(aspect_ratio_grouping=False), 0)
    assert (portrait[mixed.images].any(1) & ~portrait[mixed.images].all(1)).any()


def test_every_image_is_seen_equally_often():
    """No image is dropped between epochs: 1,200 draws of 50 images are 24 each, but for what waits in the buckets."""
    counts = np.bincount(training_order(records(50), protocol(), 0).images.ravel(), minlength=50)
    assert counts.sum() == 1200
    assert counts.max() - counts.min() <= 1 + 1
    ungrouped = training_order(records(50), protocol(aspect_ratio_grouping=False), 0)
    assert set(np.bincount(ungrouped.images.ravel())) == {24}


def test_flips_and_sizes_follow_the_protocol():
    order = training_order(records(50), protocol(flip_probability=0.25, train_short_sides=[96, 128]), 0)
    assert order.flips.mean() == pytest.approx(0.25, abs=0.05)
    assert set(order.short_sides.ravel()) == {96, 128}
    assert not training_order(records(50), protocol(flip_probability=0.0), 0).flips.any()
    assert training_order(records(50), protocol(flip_probability=1.0), 0).flips.all()


def test_a_longer_training_begins_like_a_shorter_one():
    images = records(50)
    longer = load_protocol("tiny", {"schedule": {"iterations": 400, "batch_size": 4, "steps": [200]}}, "test")
    short, long = training_order(images, protocol(), 3), training_order(images, longer, 3)
    assert (short.images == long.images[:300]).all()
    assert (short.flips == long.flips[:300]).all()


def test_fewer_images_than_a_batch_still_fill_it():
    assert training_order(records(3), protocol(), 0).images.shape == (300, 4)


def test_step_seeds_differ_and_fit_torch():
    seeds = {step_seed(s, i) for s in range(3) for i in range(200)}
    seeds |= {sampling_seed(s, i, c, k) for s in range(3) for i in range(200) for c in range(2) for k in range(2)}
    assert len(seeds) == 3000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert step_seed(1, 2) == step_seed(1, 2)
    assert sampling_seed(1, 2, 3, 4) == sampling_seed(1, 2, 3, 4)


def test_the_chain_of_what_is_consumed_tells_every_change_apart():
    step = [(3, False, 96), (41, True, 80)]
    others = [
        [(3, True, 96), (41, True, 80)], [(3, False, 95), (41, True, 80)], [(41, True, 80), (3, False, 96)],
        [(3, False, 964), (1, True, 80)], [(3, False, 96)],
    ]  # fmt: skip
    assert len({consumed_chain("", one) for one in (step, *others)}) == 6
    assert consumed_chain("", step) == consumed_chain("", [[3, 0, 96], [41, 1, 80]])  # as several processes tell it
    assert consumed_chain(consumed_chain("", step), step) != consumed_chain("", step)


def test_planned_chains_hold_the_size_that_the_limit_of_the_longer_side_leaves():
    plan = protocol(train_short_sides=[96], max_long_side=100, flip_probability=0.0)
    images = records(8)
    order = training_order(images, plan, 0)
    first, second, *_ = planned_chains(images, order, 100)
    steps = [
        [(images[i].id, False, min(resized_shape(images[i].width, images[i].height, 96, 100))) for i in order.images[n]]
        for n in (0, 1)
    ]
    assert any(side < 96 for _, _, side in steps[0])
    assert first == consumed_chain("", steps[0]) and second == consumed_chain(first, steps[1])
