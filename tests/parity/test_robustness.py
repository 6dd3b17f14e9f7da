"""Accuracy on further sets against clip-benchmark, scikit-learn and scipy, and ObjectNet's rule against WiSE-FT's."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from domix.data.classes.imagenet_subsets import subset_labels, subset_wnids
from domix.evaluate.outcomes import ScoredModel
from domix.evaluate.robustness import classify_set, robustness_table
from domix.runs import Run
from tests.scored_sets import PLAN, write_set

COUNT = 600


def scores(classes: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(COUNT, classes)).astype(np.float32)


def labels(among: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(among, size=COUNT)


def lifted(values: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return scores of a model that is right now and then."""
    values = values.copy()
    values[np.arange(COUNT), label] += 2.5
    return values


@pytest.mark.parametrize("subset", [None, subset_labels("imagenet-r")])
def test_top_k_accuracy_is_clip_benchmarks(subset, monkeypatch):
    """For a subset, clip-benchmark makes a classifier of its names alone, with labels counted among them."""
    torch = pytest.importorskip("torch")
    benchmark = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    monkeypatch.setattr(benchmark, "float", np.ndarray.item, raising=False)  # NumPy's own no longer takes its arrays
    among = list(range(1000)) if subset is None else subset
    label = labels(among)
    logits = lifted(scores(1000), label)
    judged = classify_set([logits[:256], logits[256:]], label, subset=subset)
    theirs, target = torch.from_numpy(logits[:, among]), torch.from_numpy(np.searchsorted(among, label))
    expected = benchmark.accuracy(theirs, target, topk=(1, 5))
    assert [judged.right().mean(), judged.right(5).mean()] == pytest.approx(expected)
    assert 0.1 < expected[0] < expected[1] < 1
    np.testing.assert_array_equal(judged.predicted, np.asarray(among)[theirs.argmax(dim=1).numpy()])


def test_the_subsets_are_clip_benchmarks():
    pytest.importorskip("clip_benchmark")
    code = (resources.files("clip_benchmark") / "datasets/builder.py").read_text(encoding="utf-8")
    for letter in "ra":
        (listed,) = re.findall(rf"imagenet_{letter}_wnids = [\[{{](.*?)[\]}}]", code)
        assert sorted(re.findall(r"n\d{8}", listed)) == list(subset_wnids()[f"imagenet-{letter}"])


def test_objectnets_rule_is_that_of_collapsed_scores():
    """WiSE-FT gives each of ObjectNet's classes the highest score of its ImageNet labels, and takes the highest."""
    generator = np.random.default_rng(3)
    drawn = generator.permutation(1000)[:125]
    answers = [sorted(part.tolist()) for part in np.split(drawn, np.sort(generator.permutation(124)[:112]) + 1)]
    assert len(answers) == 113
    label = generator.integers(0, 113, size=COUNT)
    logits = lifted(scores(1000), np.array([answers[own][0] for own in label]))
    subset = sorted(label for some in answers for label in some)
    judged = classify_set([logits], label, subset=subset, answers=answers)
    collapsed = np.stack([logits[:, some].max(axis=1) for some in answers], axis=1)
    np.testing.assert_array_equal(judged.right(), collapsed.argmax(axis=1) == label)
    assert 0.1 < judged.right().mean() < 0.95


def test_the_tables_estimates_and_intervals(tmp_path: Path):
    label = labels(list(range(20)))
    logits = lifted(scores(20), label)
    write_set(tmp_path, "own", label, logits)
    model = ScoredModel(Run("clip", "one", 0), "one", folder=tmp_path)
    table = robustness_table([model], ["own"], PLAN).set_index("metric")
    predicted = logits.argmax(axis=1)
    for metric, k in (("top1", 1), ("top5", 5)):
        estimate = top_k_accuracy_score(label, logits, k=k, labels=range(20))
        assert table.loc[metric, "estimate"] == pytest.approx(estimate)
        ends = binomtest(round(estimate * COUNT), COUNT).proportion_ci(PLAN.confidence, method="exact")
        np.testing.assert_allclose(table.loc[metric, ["low", "high"]].astype(float), [ends.low, ends.high])
    assert table.loc["balanced_top1", "estimate"] == pytest.approx(balanced_accuracy_score(label, predicted))
    assert table.loc["balanced_top1", "method"] == "bootstrap"
