"""Data cards count what a source holds, and what is wrong with it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from domix.data.store.index import make_index as full_index
from domix.data.store.index import write_index
from domix.report.load.study import load_results
from domix.report.page import datacards
from domix.report.page.datacards import make_card, mixture_cards, read_card, size_text
from domix.runtime.errors import DataError
from domix.runtime.files import write_json
from tests.fake_report import CONFIDENCE, Fake, read

STATS = {"read": 6, "rejected": {}}
ROW = {"domain": "real", "class": "cat", "split": "train", "size": 1000, "width": 64, "height": 64}


def index(*rows: dict[str, object]) -> pd.DataFrame:
    frame = pd.DataFrame([ROW | {"sha256": f"own {place}"} | row for place, row in enumerate(rows)])
    return frame.assign(row=np.arange(len(frame)))


def test_counts_by_split_and_domain():
    card = make_card(
        "web", index({}, {"class": "dog"}, {"split": "test"}, {"domain": "sketch", "class": None}), STATS, None
    )
    assert card.splits == {"train": 3, "test": 1} and card.packed == 4 and card.bytes == 4000
    assert card.domains == [("real", 2, 1, 2), ("sketch", 1, 0, 0)]


def test_sizes_are_quantiles_of_each_side():
    sizes = [{"width": 10 * n, "height": 100, "size": n} for n in range(1, 102)]
    card = make_card("web", index(*sizes), STATS, None)
    assert card.sizes[0] == ("least", 10, 100, 1)
    assert card.sizes[2] == ("median", 510, 100, 51) and card.sizes[-1] == ("greatest", 1010, 100, 101)


def test_repeated_files_are_counted_and_an_overlap_of_splits_called_out():
    rows = [
        {"sha256": "a"},
        {"sha256": "a", "class": "dog"},
        {"sha256": "b"},
        {"sha256": "b"},
        {"sha256": "b", "split": "test"},
        {"sha256": "c", "split": "test"},
        {"sha256": "c", "split": "test"},
        {},
    ]
    found = make_card("web", index(*rows), STATS, None).repeats
    assert (found.files, found.samples, found.across_cells, found.tested) == (3, 7, 1, 1)
    none = make_card("web", index({}, {}), STATS, None).repeats
    assert (none.files, none.samples, none.across_cells, none.tested) == (0, 0, 0, 0)


def test_a_drawing_and_its_poses_count_once():
    def posed(drawing: str, sha256: str, name: str) -> list[dict[str, object]]:
        keys = [(drawing, "test"), (f"{drawing}-pose1", "train"), (f"{drawing}-pose2", "train")]
        return [{"key": key, "split": split, "sha256": sha256, "class": name} for key, split in keys]

    alone = index(*posed("real/cat/x", "a", "cat"), *posed("real/dog/x", "b", "dog"))
    assert make_card("emoji", alone, STATS, None).repeats.files == 0
    shared = index(
        *posed("real/cat/x", "a", "cat"), *posed("real/lynx/x", "a", "lynx"), *posed("real/dog/x", "b", "dog")
    )
    found = make_card("emoji", shared, STATS, None).repeats
    assert (found.files, found.samples, found.across_cells, found.tested) == (1, 2, 1, 2)


def test_examples_show_every_domain_and_do_not_change():
    rows = [{"domain": domain, "class": f"{domain}_{n}"} for domain in ("a", "b", "c") for n in range(9)]
    card = make_card("web", index(*rows), STATS, None)
    assert [text.rpartition(", ")[2] for _, text in card.examples] == ["a", "a", "b", "b", "c", "c"]
    assert card.examples == make_card("web", index(*rows), STATS, None).examples
    for row, text in card.examples:
        assert text == f"{rows[row]['class'].replace('_', ' ')}, {rows[row]['domain']}"
    images = datacards.load_examples(card, read)
    assert len(images) == 6 and all(uri.startswith("data:image/png") for uri, _ in images)


def test_a_card_is_read_from_a_packed_folder(tmp_path):
    described = {
        "key": "k",
        "source": "imagenet-sketch",
        "label": 0,
        "shard": "00000.tar",
        "offset": 0,
        "phash": "0" * 16,
    }
    row = ROW | described | {"sha256": "x"}
    (tmp_path / "00000.tar").write_bytes(bytes(2000))
    write_index(tmp_path, full_index([row]))
    write_json(tmp_path / "stats.json", {"read": 3, "rejected": {"truncated": {"count": 2, "examples": ["a"]}}})
    card = read_card(tmp_path, "imagenet-sketch")
    assert card.manifest is not None and card.manifest.name == "imagenet-sketch"
    assert card.read == 3 and card.packed == 1 and card.rejected["truncated"]["count"] == 2
    (tmp_path / "stats.json").unlink()
    with pytest.raises(DataError, match=r"stats\.json is missing"):
        read_card(tmp_path, "imagenet-sketch")


def test_a_folder_of_the_users_own_has_no_manifest():
    assert datacards.load_manifest("my-own-images") is None


def test_mixture_cards_keep_the_order_asked_for_and_count_what_is_held_out(tmp_path):
    fake = Fake(tmp_path)
    study = load_results(fake.write(), ["cg-high-all", "leave-out-domain", "cg-high"], [0], CONFIDENCE)
    cards = {card["name"]: card for card in mixture_cards(study)}
    assert list(cards) == ["cg-high-all", "leave-out-domain", "cg-high"]
    held_out = {name: (card["held_out_tested"], card["held_out_seen"]) for name, card in cards.items()}
    assert held_out == {"cg-high-all": (0, 0), "leave-out-domain": (20, 20), "cg-high": (20, 0)}
    assert cards["cg-high"]["dropped"] == 3


@pytest.mark.parametrize(("count", "said"), [(812, "812 bytes"), (3400, "3.4 kB"), (12_500_000, "12.5 MB")])
def test_sizes_are_said_in_readable_units(count, said):
    assert size_text(count) == said
