"""How near out-of-distribution sets are to a study."""

from __future__ import annotations

import pytest

from domix.data.classes.ood_groups import CONVENTION, GROUPS, NEARNESS, groups_of
from domix.runtime.errors import DataError
from domix.runtime.files import write_json


def test_the_convention_is_openoods():
    """OpenOOD 1.5, table 1; SUN, Places and ImageNet-O are not in it."""
    near = {"imagenet": {"ssb-hard", "ninco", "imagenet-o"}, "cifar-10": {"cifar-100"}, "cifar-100": {"cifar-10"}}
    far = {"imagenet": {"inaturalist", "textures", "openimage-o", "sun", "places"}}
    far |= {known: {"textures"} for known in ("cifar-10", "cifar-100")}
    for group, sets in (("near", near), ("far", far)):
        assert {s: {name for name, found in known.items() if found == group} for s, known in CONVENTION.items()} == sets


@pytest.mark.parametrize("group", NEARNESS)
def test_what_is_asked_for_goes_before_what_the_set_and_the_convention_say(tmp_path, group):
    shards = tmp_path / "ninco"
    write_json(shards / GROUPS, {"a": "near", "b": "far"})
    assert groups_of(shards, ["b", "a"], study="imagenet", group=group) == {"a": group, "b": group}


def test_what_the_set_says_goes_before_the_convention(tmp_path):
    shards = tmp_path / "ninco"
    assert groups_of(shards, ["b"], study="imagenet") == {"b": "near"}
    write_json(shards / GROUPS, {"a": "near", "b": "far", "unseen": "far"})
    assert groups_of(shards, ["b", "a"], study="imagenet") == {"a": "near", "b": "far"}


def test_a_set_of_which_nothing_is_known(tmp_path):
    with pytest.raises(
        DataError, match="nothing says how near mine is to the classes of imagenet: give it a group"
    ) as e:
        groups_of(tmp_path / "mine", ["a"], study="imagenet")
    assert e.value.argument == "ood"


@pytest.mark.parametrize("known", [{"a": "near"}, {"a": "near", "b": "middling"}, ["a", "b"]])
def test_groups_that_do_not_fit_the_classes(tmp_path, known):
    write_json(tmp_path / "mine" / GROUPS, known)
    with pytest.raises(DataError, match=r"groups\.json does not give every class a group, near or far"):
        groups_of(tmp_path / "mine", ["a", "b"], study="emoji")
