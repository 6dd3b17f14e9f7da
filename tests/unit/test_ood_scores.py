"""Scores on plain arrays: literal formulas, orientation, hyper-parameters, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from domix.ood.metrics import auroc
from domix.ood.scores.gaussian import both_mahalanobis, mahalanobis, relative_mahalanobis
from domix.ood.scores.logits import energy, gen, l1, max_logit, msp, negative_entropy, negative_perplexity
from domix.ood.scores.neighbours import METRICS, knn
from domix.ood.scores.prototypes import max_cosine, mcm
from domix.ood.scores.registry import INPUTS, SCORES, compute_score, find_score, score
from domix.ood.tables import PLP_BY_TEMPERATURE, PLP_NAMES
from domix.runtime.errors import DataError, ParameterError

LOGITS = np.random.default_rng(0).normal(0, 4, (700, 13)).astype(np.float32)
BANK = np.random.default_rng(1).normal(0.5, 1, (400, 12)) * np.linspace(0.5, 2, 12)
FEATURES = np.random.default_rng(2).normal(0, 1, (90, 12))
LABELS = np.random.default_rng(3).choice([0, 1, 3, 4], 400, p=[0.1, 0.2, 0.3, 0.4])


@pytest.mark.parametrize(("dtype", "digits"), [(np.float64, 1e-10), (np.float32, 1e-6), (np.float16, 1e-6)])
def test_scores_of_logits_are_their_formulas(dtype: type, digits: float) -> None:
    logits = LOGITS.astype(dtype)
    z = torch.from_numpy(logits).double()
    for t in (0.1, 1.0, 2.5):
        p = (z / t).softmax(1)
        entropy = -(p * (z / t).log_softmax(1)).sum(1)
        assert np.allclose(msp(logits, temperature=t), p.max(1).values, rtol=digits)
        assert np.allclose(energy(logits, temperature=t), t * (z / t).logsumexp(1), rtol=digits)
        assert np.allclose(negative_entropy(logits, temperature=t), -entropy, rtol=digits, atol=digits)
        assert np.allclose(negative_perplexity(logits, temperature=t), -entropy.exp(), rtol=digits)
    assert np.array_equal(max_logit(logits), z.max(1).values)
    for order in (1, 2):
        assert np.allclose(max_logit(logits, norm=f"l{order}"), torch.nn.functional.normalize(z, order).max(1).values)
    assert np.allclose(l1(logits), (z - z.min(1, keepdim=True).values).sum(1), rtol=1e-12)
    for top in (5, 13, 100):
        p = z.softmax(1).sort(descending=True).values[:, :top]
        assert np.allclose(gen(logits, gamma=0.2, top=top), -(p**0.2 * (1 - p) ** 0.2).sum(1), rtol=digits)


def test_scores_of_confident_images_differ_in_single_precision() -> None:
    """All are 1 - p < 1e-8 away from certainty, which single precision does not have beside 1."""
    lead = np.arange(20, 30, dtype=np.float32)
    logits = np.stack([lead, np.zeros_like(lead), np.zeros_like(lead)], axis=1)
    rest = 2 * np.exp(-lead.astype(np.float64))
    assert np.allclose(1 - msp(logits), rest / (1 + rest), rtol=1e-5)
    assert np.allclose(energy(logits) - lead, rest, rtol=1e-3)
    assert (np.diff(negative_entropy(logits)) > 0).all() and (np.diff(gen(logits)) > 0).all()


def test_logits_are_scored_alike_in_blocks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [msp(LOGITS), energy(LOGITS), l1(LOGITS), negative_entropy(LOGITS), gen(LOGITS)]
    monkeypatch.setattr("domix.ood.scores.logits.NUMBERS", 20)  # a row at a time
    assert np.array_equal(whole, [msp(LOGITS), energy(LOGITS), l1(LOGITS), negative_entropy(LOGITS), gen(LOGITS)])


def test_a_row_of_zeros_has_no_length_and_no_other_length_is_known() -> None:
    assert max_logit(np.zeros((1, 3)), norm="l2").tolist() == [0.0]
    with pytest.raises(ParameterError, match=r"^there is no length 'l3', but none, l1, l2$"):
        max_logit(LOGITS, norm="l3")


def test_what_is_not_asked_for_is_as_in_plps_code() -> None:
    """T 1; the nearest neighbour by exp(cos / 0.02); covariances of classes weighed alike, not shrunk."""
    told = {name: dict(SCORES[name].options) for name in PLP_NAMES}
    assert told == {
        "msp": {"temperature": 1.0},
        "energy": {"temperature": 1.0},
        "l1": {},
        "perplexity": {"temperature": 1.0},
        "knn": {
            "k": 1,
            "metric": "temp-cos-sim",
            "temperature": 0.02,
            "softmax_temperature": 0.1,
            "exclude_self": False,
        },
        "mahalanobis": {"weights": "equal", "shrinkage": 0.0, "ridge": 0.0},
        "relative_mahalanobis": {"weights": "equal", "shrinkage": 0.0, "ridge": 0.0},
    }
    assert dict(SCORES["mcm"].options) == {"temperature": 1.0} and dict(SCORES["max_logit"].options) == {"norm": "none"}
    assert PLP_NAMES == {
        "msp": "msp",
        "energy": "free_energy",
        "l1": "l1_norm",
        "perplexity": "perplexity",
        "knn": "knn",
        "mahalanobis": "Mahalanobis",
        "relative_mahalanobis": "Mahalanobis_relative",
    }
    assert PLP_BY_TEMPERATURE == ("msp", "energy", "l1", "perplexity")


def literal_similarities(metric: str) -> np.ndarray:
    x, y = torch.from_numpy(FEATURES), torch.from_numpy(BANK)
    unit_x, unit_y = torch.nn.functional.normalize(x), torch.nn.functional.normalize(y)
    p, q = (x / 0.1).softmax(1), (y / 0.1).softmax(1)
    return {
        "cos-sim": lambda: (unit_x @ unit_y.T).exp(),
        "temp-cos-sim": lambda: (unit_x @ unit_y.T / 0.02).exp(),
        "sim": lambda: p @ q.T,
        "BC": lambda: p.sqrt() @ q.sqrt().T,
        "l1": lambda: -torch.cdist(x, y, p=1),
        "l2": lambda: -torch.cdist(x, y, p=2),
        "norm-l1": lambda: -torch.cdist(unit_x, unit_y, p=1),
        "norm-l2": lambda: -torch.cdist(unit_x, unit_y, p=2),
    }[metric]().numpy()


@pytest.mark.parametrize("k", [1, 7, -1])
@pytest.mark.parametrize("metric", METRICS)
def test_knn_is_the_mean_of_the_highest_similarities(metric: str, k: int) -> None:
    all_of_them = np.sort(literal_similarities(metric), axis=1)[:, ::-1]
    expected = (all_of_them if k == -1 else all_of_them[:, :k]).mean(axis=1)
    assert np.allclose(knn(FEATURES, BANK, k=k, metric=metric), expected, rtol=1e-9)


@pytest.mark.parametrize("k", [1, 2, -1])
def test_a_row_of_zeros_has_no_direction_and_is_1_from_every_row_of_length_1(k: int) -> None:
    bank, images = np.array([[0.0, 0.0], [-3.0, 0.0], [0.0, -5.0]]), np.array([[2.0, 0.0], [1.0, 1.0]])
    distances = np.sort([[1, 2, 2**0.5], [1, *[(2 + 2**0.5) ** 0.5] * 2]], axis=1)
    expected = -(distances if k == -1 else distances[:, :k]).mean(axis=1)
    assert np.allclose(knn(images, bank, k=k, metric="norm-l2"), expected)


@pytest.mark.parametrize("weights", ["equal", "size"])
def test_mahalanobis_is_its_formula(weights: str) -> None:
    parts = [BANK[np.equal(LABELS, c)] for c in np.unique(LABELS)]
    if weights == "equal":
        within = np.mean([np.cov(part.T) for part in parts], axis=0)
    else:
        within = np.sum([np.cov(part.T, ddof=0) * len(part) for part in parts], axis=0) / len(BANK)
    everywhere = np.cov(BANK.T, ddof=1 if weights == "equal" else 0)

    def distance(mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        return np.einsum("nd,de,ne->n", FEATURES - mean, np.linalg.inv(covariance), FEATURES - mean)

    classes = np.stack([distance(part.mean(axis=0), within) for part in parts])
    background = distance(BANK.mean(axis=0), everywhere)
    assert np.allclose(mahalanobis(FEATURES, BANK, LABELS, weights=weights), -classes.min(axis=0), rtol=1e-9)
    relative = relative_mahalanobis(FEATURES, BANK, LABELS, weights=weights)
    assert np.allclose(relative, -(classes - background).min(axis=0), rtol=1e-9)
    assert np.array_equal(np.stack(both_mahalanobis(FEATURES, BANK, LABELS, weights=weights))[1], relative)


def test_mcm_is_msp_of_cosines() -> None:
    x, t = torch.from_numpy(FEATURES), torch.from_numpy(BANK[:9])
    cosine = torch.nn.functional.normalize(x) @ torch.nn.functional.normalize(t).T
    for temperature in (1.0, 0.01):
        expected = (cosine / temperature).softmax(1).max(1).values
        assert np.allclose(mcm(FEATURES, BANK[:9], temperature=temperature), expected, rtol=1e-10)
    assert np.allclose(max_cosine(FEATURES, BANK[:9]), cosine.max(1).values)


def everything(images: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    weight, bias = rng.normal(0, 0.3, (5, 12)), rng.normal(0, 0.3, 5)
    features = np.abs(FEATURES[:images])
    given = {"logits": features @ weight.T + bias, "features": features, "bank": np.abs(BANK), "labels": LABELS}
    return given | {"weight": weight, "bias": bias, "prototypes": weight, "negatives": rng.normal(size=(7, 12))}


@pytest.mark.parametrize("name", SCORES)
def test_every_score_is_computed_by_name_alike_for_one_image_and_many(name: str) -> None:
    assert set(SCORES[name].needs) <= set(INPUTS) and SCORES[name].source
    many, one = compute_score(name, everything(90)), compute_score(name, everything(1))
    assert many.shape == (90,) and many.dtype == np.float64 and np.isfinite(many).all()
    assert one == pytest.approx(many[:1], rel=1e-6)


@pytest.mark.parametrize("name", sorted(set(SCORES) - {"react", "ash", "scale", "she"}))
def test_images_like_those_of_training_score_higher(name: str) -> None:
    """No claim about methods: clusters around prototypes, and foreign images with nothing in common with them."""
    rng = np.random.default_rng(0)
    centres = 3 * np.eye(8)[:4]
    labels = np.arange(400) % 4
    bank, inside = (centres[labels] + rng.normal(0, 0.3, (400, 8)) for _ in range(2))
    inside, outside = inside[:100], rng.normal(0, 0.2, (100, 8)) + 4 * np.eye(8)[5]
    given = {"bank": bank, "labels": labels, "weight": centres, "bias": np.zeros(4), "prototypes": centres}
    found = [
        compute_score(name, {**given, "negatives": np.eye(8)[4:], "features": rows, "logits": rows @ centres.T})
        for rows in (inside, outside)
    ]
    assert auroc(*found) > 0.9


def test_a_score_is_a_function_with_a_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domix.ood.scores.registry.SCORES", found := {})

    @score("length", source="a test")
    def length(features: np.ndarray, *, power: float = 1.0) -> np.ndarray:
        return np.linalg.norm(features, axis=1) ** power

    assert found["length"].needs == ("features",) and found["length"].options == {"power": 1.0}
    assert compute_score("length", {"features": np.ones((1, 4))}, power=2.0) == pytest.approx([4.0])
    with pytest.raises(ValueError, match="is there twice, or needs what is no input"):
        score("length", source="a test")(length)
    with pytest.raises(ValueError, match="needs what is no input: \\['x'\\]"):
        score("other", source="a test")(lambda x: x)


def test_requests_that_cannot_be_met_are_told() -> None:
    with pytest.raises(ParameterError, match=r"^there is no score 'mahalanbis': did you mean mahalanobis\?$"):
        find_score("mahalanbis")
    with pytest.raises(ParameterError, match=r"^there is no score 'zzz': known here: mahalanobis, "):
        find_score("zzz")
    with pytest.raises(DataError, match=r"^the score mcm needs prototypes, which is not given$"):
        compute_score("mcm", {"features": FEATURES})
    with pytest.raises(ParameterError, match=r"^the score msp has no option 'k'; its options: temperature$"):
        compute_score("msp", {"logits": LOGITS}, k=3)
    with pytest.raises(ParameterError, match=r"^temperature is 0: give a number above 0$"):
        energy(LOGITS, temperature=0)
    with pytest.raises(ParameterError, match=r"^gamma is nan: give a number above 0$"):
        gen(LOGITS, gamma=np.nan)
    with pytest.raises(ParameterError, match=r"^there is no metric 'cosine', but cos-sim, temp-cos-sim, sim, BC, l1"):
        knn(FEATURES, BANK, metric="cosine")
    with pytest.raises(DataError, match=r"^the bank has 400 images and 401 neighbours are asked for: lower k$"):
        knn(FEATURES, BANK, k=401)
    with pytest.raises(DataError, match=r"^the bank has 0 images, the image itself left out, and 1 neighbours"):
        knn(FEATURES[:1], FEATURES[:1], k=-1, exclude_self=True)
    with pytest.raises(DataError, match=r"^the features have 11 dimensions, the bank's 12: give them of one encoder$"):
        mahalanobis(FEATURES[:, :11], BANK, LABELS)
    with pytest.raises(DataError, match=r"^the features have 12 dimensions, the prototypes 11: give them of"):
        mcm(FEATURES, BANK[:9, :11])
    with pytest.raises(DataError, match=r"^the logits are not finite \(row 600\): mend or leave out that image$"):
        msp(np.where(np.arange(700)[:, None] == 600, np.nan, LOGITS))
    with pytest.raises(DataError, match=r"^the logits are empty: give a set with images$"):
        msp(LOGITS[:0])
    flat = BANK.copy()
    flat[:, 2] = 1.0
    with pytest.raises(DataError, match=r"^the covariance of the features has no inverse \(dimension 2 is constant\)"):
        mahalanobis(FEATURES, flat, LABELS)
    assert np.isfinite(mahalanobis(FEATURES, flat, LABELS, shrinkage=0.01)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_the_image_itself_is_left_out(metric: str) -> None:
    for k in (1, 3, -1):
        own = knn(BANK[:50], BANK[:50], k=k, metric=metric, exclude_self=True)
        rest = [knn(BANK[i : i + 1], np.delete(BANK[:50], i, axis=0), k=k, metric=metric)[0] for i in range(50)]
        assert np.allclose(own, rest, rtol=1e-9)


def test_distances_keep_their_digits_in_single_precision() -> None:
    bank = (BANK + 100).astype(np.float32)
    twins = knn(bank[:30], bank, metric="l2")
    assert np.array_equal(twins, np.zeros(30))
    apart = knn((FEATURES + 100).astype(np.float32), bank, metric="l2")
    expected = knn((FEATURES + 100).astype(np.float32).astype(float), bank.astype(float), metric="l2")
    assert np.allclose(apart, expected, rtol=1e-6)
    assert np.allclose(
        knn(bank[:30], bank, metric="l2", k=-1), knn(bank[:30] * 1.0, bank.astype(float), metric="l2", k=-1), rtol=1e-4
    )
