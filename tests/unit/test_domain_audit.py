"""The domain audit finds hidden images of the test domain, and finds none where there are none."""

from __future__ import annotations

import numpy as np
import pytest

from domix.analyses.leakage.domain_audit import Probe, audit_table, estimate_share, fit_probe
from domix.runtime.errors import DataError

DOMAINS = ["clipart", "real", "sketch"]
WIDTH, CLASSES, EACH = 8, 20, 30


def images(rng: np.random.Generator, domain: int, count: int, apart: float = 1.5) -> np.ndarray:
    """Embeddings of one domain: noise about a point of its own, the nearer to the others the harder to tell."""
    return (rng.normal(size=(count, WIDTH)) + apart * np.eye(WIDTH)[domain]).astype(np.float32)


def made_probe(rng: np.random.Generator, apart: float = 1.5):
    parts = [(images(rng, d, CLASSES * EACH, apart), np.repeat(np.arange(CLASSES), EACH), d) for d in range(3)]
    image, label = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    domain = np.repeat([p[2] for p in parts], CLASSES * EACH)
    return fit_probe(image, domain, label, DOMAINS, classes=CLASSES, test_domain="sketch", natural="real")


def verdicts(probe: Probe, image: np.ndarray) -> np.ndarray:
    return probe.takes(image, np.full(len(image), -1))


def test_the_probe_errs_as_its_rates_say():
    rng = np.random.default_rng(0)
    probe = made_probe(rng)
    for domain in range(3):
        measured = verdicts(probe, images(rng, domain, 4000)).mean()
        assert probe.rates[domain] == pytest.approx(measured, abs=0.06)
    assert probe.hits.sum() == probe.taken.sum() and probe.images.sum() == 3 * CLASSES * EACH
    assert probe.rates[2] > 0.6 > 0.4 > probe.rates[0]


@pytest.mark.parametrize("hidden", [0.0, 0.05, 0.3, 1.0])
def test_hidden_images_of_a_base_corpus_are_estimated_within_the_interval(hidden):
    rng = np.random.default_rng(1)
    probe = made_probe(rng)
    total = 5000
    image = np.concatenate([images(rng, 2, int(hidden * total)), images(rng, 1, total - int(hidden * total))])
    counts = np.array([0, 0, 0, total])
    found = estimate_share(probe, int(verdicts(probe, image).sum()), counts, confidence=0.99)
    assert found["low"] <= hidden <= found["high"]
    assert found["low"] <= found["estimate"] <= found["high"] and found["high"] - found["low"] < 0.25
    assert found["share"] > hidden or hidden == 1.0  # as it stands, the share taken counts errors too


def test_the_coverage_of_the_interval_is_about_what_it_says():
    inside = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        probe = made_probe(rng)
        image = np.concatenate([images(rng, 2, 100), images(rng, 1, 900)])
        found = estimate_share(probe, int(verdicts(probe, image).sum()), np.array([0, 0, 0, 1000]), confidence=0.9)
        inside += found["low"] <= 0.1 <= found["high"]
    assert 24 <= inside <= 30


def test_no_image_is_judged_by_what_has_learnt_from_its_class():
    rng = np.random.default_rng(5)
    image = np.concatenate([images(rng, d, CLASSES * EACH) for d in range(3)])
    label, domain = np.tile(np.repeat(np.arange(CLASSES), EACH), 3), np.repeat(np.arange(3), CLASSES * EACH)
    probe = fit_probe(image, domain, label, DOMAINS, classes=CLASSES + 1, test_domain="sketch", natural="real")
    np.testing.assert_array_equal(probe.takes(image, label), probe.taken)
    unseen = np.full(len(image), CLASSES)  # a class that was not drawn: all may judge, as where the class is unknown
    np.testing.assert_array_equal(probe.takes(image, unseen), verdicts(probe, image))


def test_known_domains_weigh_the_rate_of_false_positives():
    probe = made_probe(np.random.default_rng(2))
    mixed = estimate_share(probe, 50, np.array([300, 100, 50, 0]), confidence=0.95)
    assert mixed["false_positive"] == pytest.approx(0.75 * probe.rates[0] + 0.25 * probe.rates[1])
    only = estimate_share(probe, 50, np.array([0, 0, 100, 0]), confidence=0.95)
    assert only["false_positive"] == pytest.approx(probe.rates[1])


def test_a_probe_that_tells_nothing_estimates_nothing():
    found = estimate_share(
        made_probe(np.random.default_rng(3), apart=0.0), 10, np.array([0, 20, 0, 0]), confidence=0.95
    )
    assert found["share"] == 0.5 and np.isnan([found["estimate"], found["low"], found["high"]]).all()


def test_one_class_cannot_teach_a_probe():
    image, label = np.zeros((4, WIDTH), np.float32), np.array([0, 0, 0, 1])
    with pytest.raises(DataError, match="two classes in 'sketch'"):
        fit_probe(image, np.array([2, 2, 1, 1]), label, DOMAINS, classes=CLASSES, test_domain="sketch", natural="real")


def test_the_table_has_sources_whole_and_their_domains():
    probe = made_probe(np.random.default_rng(4))
    shown = {
        ("cg", "main"): (np.array([0, 40, 10, 0]), np.array([0, 4, 9, 0])),
        ("cg", "web"): (np.array([0, 0, 0, 100]), np.array([0, 0, 0, 5])),
        ("cg", "unused"): (np.zeros(4, np.int64), np.zeros(4, np.int64)),
    }
    table = audit_table(probe, DOMAINS, shown, confidence=0.95)
    rows = table[["source", "domain", "n", "labelled", "taken"]].itertuples(index=False, name=None)
    assert list(rows) == [
        ("main", "all", 50, 10, 13),
        ("main", "real", 40, 0, 4),
        ("main", "sketch", 10, 10, 9),
        ("web", "all", 100, 0, 5),
    ]
    assert table.loc[table["domain"] == "all", "estimate"].notna().all()
    assert table.loc[table["domain"] == "real", "share"].item() == pytest.approx(0.1)
