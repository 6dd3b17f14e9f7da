"""Sources: the registry, the order of the bundled set's samples, DomainNet's layout."""

from __future__ import annotations

import pickle
import unicodedata

import pytest

from domix.data.sources.contract import LISTING
from domix.data.sources.layout import DomainNetLayout
from domix.data.sources.registry import get_source
from domix.runtime.errors import DataError, ParameterError
from tests.fixtures import make_domainnet_set, replace_members, write_zip
from tests.packing import samples_of


def samples(folder, poses=2):
    return samples_of("emoji", folder, poses=poses)


def test_unknown_source_suggests_the_nearest():
    with pytest.raises(ParameterError, match=r"unknown source 'emojis': did you mean emoji\?"):
        get_source("emojis")


def test_unknown_source_without_a_near_one_names_all():
    with pytest.raises(ParameterError, match="known: emoji"):
        get_source("quux")


def test_samples_go_by_domain_then_training_before_test(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["sketch", "clipart"]))
    seen = list(dict.fromkeys((s.domain, s.split) for s in found))
    assert seen == [("clipart", "train"), ("clipart", "test"), ("sketch", "train"), ("sketch", "test")]


def test_any_beginning_of_a_training_cell_shows_as_many_artists_as_it_can(tmp_path):
    found = samples(make_domainnet_set(tmp_path, domains=["real"], classes=["axe", "bed"], per_cell=2))
    cell = [s.key for s in found if s.split == "train" and s.class_name == "axe"]
    assert cell == [f"real/axe/artist{artist}-pose{pose}" for pose in (1, 2) for artist in (0, 1)]


def test_test_images_are_the_drawings_as_drawn(tmp_path):
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


def write_classes(root, *rows):
    (root / "classes.csv").write_text("".join(f"{row}\n" for row in ("label,directory,group", *rows)))
    return root


def test_emoji_that_show_no_object_are_for_testing_alone_whatever_the_poses(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real", "sketch"], classes=["ice cream", "bed"])
    found = samples_of("emoji-ood", root, poses=3)
    assert found == [sample for sample in samples_of("emoji", root, poses=3) if sample.split == "test"]
    source = get_source("emoji-ood")
    assert source.listing(root, poses=3)["key"].tolist() == [sample.key for sample in found]
    assert source.groups(write_classes(root, "0,bed,near", "1,ice_cream,far")) == {"bed": "near", "ice cream": "far"}


@pytest.mark.parametrize("rows", [["0,bed,middling"], ["0,,near"], ["0"], []])
def test_a_table_of_classes_without_groups(tmp_path, rows):
    with pytest.raises(DataError, match=r"classes\.csv does not give every class a directory and a group, near or far"):
        get_source("emoji-ood").groups(write_classes(tmp_path, *rows))


@pytest.mark.parametrize("name", ["emoji", "domainnet"])
def test_listing_and_parts_name_the_same_samples_in_one_order(tmp_path, name):
    root = make_domainnet_set(tmp_path, domains=["sketch", "real"], apart=name == "domainnet")
    source = get_source(name)
    listing = source.listing(root, poses=2)
    assert tuple(listing.columns) == LISTING
    for size in (1, 5, 1000):
        parts = source.parts(root, size=size, poses=2)
        found = [sample for part in parts for sample in part.samples()]
        assert [s.key for s in found] == listing["key"].tolist()
        assert [(s.domain, s.class_name, s.label, s.split) for s in found] == list(
            listing[["domain", "class", "label", "split"]].itertuples(index=False, name=None)
        )


def test_a_part_reads_its_samples_in_another_process(tmp_path):
    part = get_source("domainnet").parts(make_domainnet_set(tmp_path, apart=True), size=5, poses=1)[1]
    assert [s.data for s in pickle.loads(pickle.dumps(part)).samples()] == [s.data for s in part.samples()]  # noqa: S301


def test_files_are_what_the_source_reads(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"])
    (root / "stray.txt").write_text("not part of it")
    wanted = ["real.zip", "real_test.txt", "real_train.txt"]
    assert sorted(get_source("domainnet").files(root)) == wanted
    assert sorted(get_source("emoji").files(root)) == ["manifest.json", *wanted]


def test_an_archive_that_was_replaced_is_read_anew(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"], classes=["axe"])
    samples(root)
    replace_members(root / "real.zip", {"real/axe/artist0.png": b"other"})
    assert samples(root)[0].data == b"other"


def test_layout_finds_its_domains_sorted(tmp_path):
    assert DomainNetLayout(make_domainnet_set(tmp_path, domains=["sketch", "real"])).domains == ["real", "sketch"]


def test_empty_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"holds no <domain>_train\.txt"):
        samples(tmp_path)


def relabel(root, change):
    """Write the lists' lines anew."""
    for path in root.glob("*_*.txt"):
        path.write_text("".join(change(*line.rsplit(" ", 1)) for line in path.read_text().splitlines()))


@pytest.mark.parametrize("name", ["emoji", "domainnet"])
def test_labels_are_numbered_from_zero_in_the_order_of_the_lists(tmp_path, name):
    root = make_domainnet_set(tmp_path, domains=["real", "sketch"], classes=["axe", "bed", "ice cream"], apart=True)
    relabel(root, lambda path, label: f"{path} {[7, 1, 4][int(label)]}\n")
    listing = get_source(name).listing(root, poses=1)
    assert set(zip(listing["class"], listing["label"], strict=True)) == {("axe", 2), ("bed", 0), ("ice cream", 1)}


def test_labels_that_differ_between_lists_are_refused(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real", "sketch"], classes=["axe", "bed"], apart=True)
    (root / "sketch_test.txt").write_text("sketch/axe/artist1.png 1\n")
    with pytest.raises(DataError, match=r"sketch_test\.txt, line 1 gives 'axe' the label 1, and an earlier line 0"):
        get_source("domainnet").parts(root, size=9, poses=1)


def test_an_image_in_both_lists_is_refused_where_lists_divide_the_images(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"], classes=["axe"])
    with pytest.raises(DataError, match=r"name real/axe/artist0\.png and real/axe/artist0\.png, one sample"):
        get_source("domainnet").parts(root, size=9, poses=1)


def test_archives_and_lists_may_differ_in_unicode_form(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"], classes=["axe", "café"], apart=True)
    relabel(root, lambda path, label: f"{unicodedata.normalize('NFD', path)} {label}\n")
    for sample in samples_of("domainnet", root):
        assert sample.class_name in ("axe", "café")
        assert sample.key == unicodedata.normalize("NFC", sample.key)


def test_names_that_differ_in_suffix_or_dots_stay_apart(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"], classes=["axe"])
    names = ["a.png", "a.jpg", "b.c.png", "b_c.png"]
    write_zip(root / "real.zip", {f"real/axe/{name}": name.encode() for name in names})
    for split, part in (("train", names[::2]), ("test", names[1::2])):
        (root / f"real_{split}.txt").write_text("".join(f"real/axe/{name} 0\n" for name in part))
    found = samples_of("domainnet", root)
    assert sorted(s.data.decode() for s in found) == sorted(names)
    assert len({s.key for s in found}) == len(names)
    assert all("." not in s.key for s in found)


def test_what_systems_leave_behind_is_no_data(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"])
    before = samples(root)
    replace_members(
        root / "real.zip", {"__MACOSX/real/axe/._artist0.png": b"x", "real/axe/Icon\r": b"", "Thumbs.db": b""}
    )
    (root / "._sketch_train.txt").write_bytes(b"\0\5\x16\7")
    assert samples(root) == before


def test_a_list_of_what_its_archive_holds_elsewhere(tmp_path):
    root = make_domainnet_set(tmp_path, domains=["real"], classes=["axe"])
    write_zip(root / "real.zip", {"images/real/axe/artist0.png": b"x"})
    with pytest.raises(DataError, match=r"does not hold \(it holds images/real/axe/artist0\.png\)"):
        samples(root)
