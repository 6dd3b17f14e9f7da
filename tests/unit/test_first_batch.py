"""The image of the first batch shows what the model reads, pixel by pixel, with the right words below."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from domix.data.loading import augment
from domix.model import clip
from domix.train import first_batch
from domix.train.job import Job
from tests.tiny import CONFIG, make_job


def words(job: Job) -> first_batch.Words:
    captions: Any = job.task
    return lambda rows: [(captions.captions[row], f"emoji / real / {row}") for row in rows]


def drawn(job: Job) -> np.ndarray:
    with Image.open(io.BytesIO(first_batch.draw(job, words(job), name="tiny-s0"))) as image:
        return np.array(image.convert("RGB"))


@pytest.mark.parametrize(("batch", "shown"), [(8, 8), (16, 16), (20, 16), (40, 16)])
def test_it_shows_the_first_samples_of_step_0_as_a_training_reads_them(batch: int, shown: int) -> None:
    job = make_job(60, batch=batch, samples=batch * 2)
    rows, images = first_batch.first_images(job)
    targets = job.task.targets(job.task.build(0))
    real = job.batches(targets, start=0).make(0)
    exact = augment.crop_resize(real.images, augment.Boxes(*real.boxes), 32, hflip=real.hflip)
    assert torch.equal(images, exact[:shown].byte().permute(0, 2, 3, 1))
    captions: Any = job.task
    tokens = clip.tokenizer(CONFIG)([captions.captions[row] for row in rows])  # the words belong to the images
    assert torch.equal(tokens[:, : targets.shape[1]], real.targets[:shown])


def test_every_pixel_is_drawn_as_a_square_of_its_colour() -> None:
    job = make_job()
    _, images = first_batch.first_images(job)
    large = np.repeat(np.repeat(images.numpy(), 7, axis=1), 7, axis=2)  # 224 // 32
    sheet = drawn(job)
    left, across = first_batch.MARGIN, 224 + first_batch.GAP
    for number, image in enumerate(large):
        column = sheet[:, left + number % 4 * across :][:, :224]
        places = [top for top in range(len(column) - 223) if (column[top] == image[0]).all()]
        assert any((column[top : top + 224] == image).all() for top in places), number


def test_equal_trainings_give_equal_bytes_and_others_do_not() -> None:
    first, again, other = (
        first_batch.draw(job, words(job), name="a") for job in (make_job(), make_job(), make_job(seed=1))
    )
    assert first == again != other
    with Image.open(io.BytesIO(first)) as image:
        assert set(image.info) <= {"dpi"}


@pytest.mark.parametrize(
    "caption", ["", "costs $5 and $\\frac$", "a\tb\nc", "\u732b\u306e\u7d75", "long " * 60, "x" * 300, "<b>&amp;"]
)
def test_captions_of_any_kind_are_drawn(caption: str) -> None:
    job = make_job()
    png = first_batch.draw(job, lambda rows: [(caption, "cc3m")] * len(rows), name="tiny-s0")
    with Image.open(io.BytesIO(png)) as image:
        assert image.size[0] > 500


def test_a_large_image_is_shown_at_its_size() -> None:
    config = CONFIG | {"vision_cfg": CONFIG["vision_cfg"] | {"image_size": 320}}
    assert drawn(make_job(config=config)).shape[1] == 2 * first_batch.MARGIN + 4 * 320 + 3 * first_batch.GAP
