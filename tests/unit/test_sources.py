"""Sources: the registry, the order of the bundled set's samples, DomainNet's layout."""

from __future__ import annotations

import pytest

from domix.data.sources import get_source
from domix.data.sources.layout import DomainNetLayout
from domix.runtime.errors import DataError
from tests.fixtures import make_domainnet_set


def samples(folder, poses=2):
    return list(get_source("emoji").samples(folder, poses=poses))


def test_unknown_source_suggests_the_nearest():
    with pytest.raises(DataError, match=r"unknown source 'emojis': did you mean emoji\?"):
        get_source("emojis")


def test_unknown_source_without_a_near_one_names_all():
    with pytest.raises(DataError, match="known: emoji"):
        get_source("quux")


def test_samples_go_by_domain_then_training_before_test(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["sketch", "clipart"]))
    seen = list(dict.fromkeys((s.domain, s.split) for s in found))
    assert seen == [("clipart", "train"), ("clipart", "test"), ("sketch", "train"), ("sketch", "test")]


def test_any_beginning_of_a_training_cell_shows_as_many_artists_as_it_can(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["real"], classes=["axe", "bed"], per_cell=2))
    cell = [s.key for s in found if s.split == "train" and s.class_name == "axe"]
    assert cell == [f"real/axe/artist{artist}-pose{pose}" for pose in (1, 2) for artist in (0, 1)]


def test_test_pictures_are_the_drawings_as_drawn(tmp_path):
    found = [s for s in samples(make_domainnet_set(tmp_path, domains=["real"], classes=["axe"])) if s.split == "test"]
    assert [(s.key, s.drawing, s.pose) for s in found] == [
        (f"real/axe/artist{i}", f"real/axe/artist{i}", 0) for i in (0, 1)
    ]


def test_every_drawing_gives_as_many_poses_as_asked_and_keys_are_unique(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["real", "sketch"], classes=["axe", "bed"]), poses=3)
    assert len({s.key for s in found}) == len(found) == 2 * 2 * 2 * (3 + 1)


def test_underscores_of_directories_become_blanks_and_hyphens_stay(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["real"], classes=["ice cream", "t-shirt"], per_cell=1))
    assert {(s.class_name, s.label) for s in found} == {("ice cream", 0), ("t-shirt", 1)}
    assert found[0].key == "real/ice_cream/artist0-pose1"


def test_fetch_brings_the_verified_files(tmp_path):
    source = make_domainnet_set(tmp_path / "set", domains=["real"])
    get_source("emoji").fetch(source, tmp_path / "raw")
    assert len(samples(tmp_path / "raw")) == len(samples(source))


def test_layout_finds_its_domains_sorted(tmp_path):
    with DomainNetLayout(make_domainnet_set(tmp_path, domains=["sketch", "real"])) as layout:
        assert layout.domains == ["real", "sketch"]


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no <domain>_train\.txt"):
        samples(tmp_path)
