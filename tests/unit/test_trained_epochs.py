"""After how many epochs a model's last weights came."""

from __future__ import annotations

import math

import pytest

from domix.embed.passes import trained_epochs
from domix.runtime.errors import DataError


@pytest.mark.parametrize(
    ("steps", "samples", "batch", "expected"),
    [
        (500, 6717, 128, 10),  # nine and a half
        (32, 128, 128, 32),  # whole epochs of whole batches
        (53, 6717, 128, 1),  # the first step that has seen all
        (54, 6717, 128, 2),
        (math.ceil(32 * 6717 / 128), 6717, 128, 32),
        (1, 6717, 128, 1),
    ],
)
def test_a_begun_epoch_counts_whole_and_one_ends_with_the_step_that_has_seen_all(
    tmp_path, steps, samples, batch, expected
):
    rows = [f"{step},{round(step * batch / samples, 4)},{step * batch}" for step in (max(1, steps - 1), steps)]
    (tmp_path / "log.csv").write_text("\n".join(["step,epoch,samples", *rows]))
    assert trained_epochs(tmp_path) == expected


def test_a_folder_without_a_log_does_not_say(tmp_path):
    assert trained_epochs(tmp_path) is None


@pytest.mark.parametrize("text", ["", "step,epoch\n", "step,loss\n1,2\n", "step,epoch\n1,\x00many\n"])
def test_a_damaged_log_is_named(tmp_path, text):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(DataError, match=r"log\.csv is damaged"):
        trained_epochs(tmp_path)
