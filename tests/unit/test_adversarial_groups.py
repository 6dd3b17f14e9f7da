"""Near or far classes of a set as the images that become adversarial."""

from __future__ import annotations

from pathlib import Path

import pytest

from domix.analyses.adversarial.draw import draw_images
from domix.analyses.adversarial.section import foreign_words
from domix.analyses.contract import RunInputs
from domix.data.store.index import read_index
from domix.runtime import settings as of_settings
from domix.runtime.errors import DataError, ParameterError
from domix.runtime.files import write_json
from tests.tiny import write_project
from tests.unit.test_adversarial import FEW
from tests.unit.test_adversarial import inputs as inputs


def test_near_or_far_classes_of_a_set_are_foreign(inputs: RunInputs, tmp_path: Path) -> None:
    write_project(tmp_path / "other", count=24)
    home, embedded = inputs.artifacts / "shards/sets/odd", inputs.embeddings_folder / "sets/odd"
    home.parent.mkdir()
    embedded.mkdir(parents=True)
    (tmp_path / "other/artifacts/shards/emoji").rename(home)
    index = read_index(home)
    near = sorted(set(index["class"]))[:3]
    groups = {name: "near" if name in near else "far" for name in set(index["class"])}
    write_json(embedded / "meta.json", {"groups": groups})
    for group, isin in (("near", True), ("far", False)):
        drawn = draw_images(inputs, of_settings.replace(FEW, ood=f"odd:{group}", bank=None))
        assert drawn is not None and drawn.origin == "sets/odd"
        assert (drawn.sources["class"].isin(near) == isin).all()
    write_json(embedded / "meta.json", {"groups": dict.fromkeys(groups, "far")})
    with pytest.raises(DataError, match="the evaluation set odd:near holds 0 images to be foreign: 2 are needed"):
        draw_images(inputs, of_settings.replace(FEW, ood="odd:near"))
    write_json(embedded / "meta.json", {})
    with pytest.raises(ParameterError, match=r"odd has no near and far classes: name it in embed\.ood, too"):
        draw_images(inputs, of_settings.replace(FEW, ood="odd:near"))


def test_the_page_says_which_images_are_foreign() -> None:
    held_out = "a sketch image of a class that was held out in that style"
    assert foreign_words(None, "sketch") == held_out
    assert foreign_words("odd", "sketch") == "an image of odd"
    assert foreign_words("odd:near", "sketch") == "an image of odd whose class is near to the study\u2019s"
    assert foreign_words("odd:far", "sketch") == "an image of odd whose class is far from the study\u2019s"
