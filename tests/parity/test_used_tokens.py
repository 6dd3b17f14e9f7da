"""Training the rows of the tokens in use gives the weights that training all rows gives, to the last bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from domix.model.checkpoint import load_tensors
from domix.runtime.errors import Interrupted
from domix.train import clip_module
from domix.train.fit import fit
from domix.train.session import Validator
from domix.train.used_tokens import UsedTokens, train_used_tokens
from tests.tiny import CONFIG, make_job
from tests.unit.test_fit import same, stop_at

UNUSED = 4321  # no caption of tests.tiny has this token
WIDE = CONFIG | {"text_cfg": CONFIG["text_cfg"] | {"width": 64}}
CUSTOM = WIDE | {"custom_text": True}
CHANGES: list[dict[str, Any]] = [
    {},
    {"fused": False},
    {"accumulate": 2, "weight_decay": 0.0},
    {"precision": "fp16", "samples": 8 * 20},  # whose scaler leaves steps out
    {"config": CUSTOM, "context": "full"},
    {"checkpoints": [0, 1, 3]},
]


def watched(seen: list[Tensor]) -> Validator:
    """Measure on the way, and keep, what the text tower makes of a token in use and one that is not."""

    def measure(model: Any) -> dict[str, float]:
        embedding = getattr(model, "text", model).token_embedding
        training = embedding.training
        embedding.eval()
        seen.append(embedding(torch.tensor([320, UNUSED])).detach().clone())
        embedding.train(training)
        return {"sum": float(seen[-1].sum())}

    return Validator(4, measure)


def trained(folder: Path, changes: dict[str, Any]) -> tuple[Path, list[Tensor]]:
    seen: list[Tensor] = []
    job = make_job(**{"config": WIDE, **changes})
    fit(job, out=folder / "model", resume=folder / "resume", about={}, make_validator=lambda: watched(seen))
    return folder / "model", seen


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_weights_on_the_way_and_at_the_end_are_those_of_training_all_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    used: list[UsedTokens] = []

    def noted(model: nn.Module, tokens: Tensor) -> list[UsedTokens]:
        used.extend(train_used_tokens(model, tokens))
        return used

    with monkeypatch.context() as patch:
        patch.setattr(clip_module, "train_used_tokens", noted)
        mine, seen = trained(tmp_path / "used", changes)
    assert [len(each.weight) for each in used] == [18]  # of 14 words, one of two tokens; start, end, padding
    with monkeypatch.context() as patch:
        patch.setattr(clip_module, "train_used_tokens", lambda model, tokens: [])
        all_rows, expected = trained(tmp_path / "all", changes)
    assert same(mine, all_rows)
    assert len(seen) == len(expected) > 2 and all(map(torch.equal, seen, expected))


def test_rows_out_of_use_are_decayed_across_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = trained(tmp_path / "whole", {})
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 6)
        trained(tmp_path / "cut", {})
    cut, _ = trained(tmp_path / "cut", {})
    assert same(whole, cut)
    before = make_job(config=WIDE).task.build(0).state_dict()["token_embedding.weight"][UNUSED]
    after = load_tensors(whole / "model.safetensors")["token_embedding.weight"][UNUSED]
    assert 0 < (1 - after / before).mean() < 0.01


def test_tokens_that_training_does_not_know_are_no_others() -> None:
    embedding = UsedTokens(nn.Embedding(10, 8), torch.tensor([2, 5]))
    with pytest.raises(IndexError):
        embedding(torch.tensor([[2, 3]]))
    assert embedding.eval()(torch.tensor([[2, 3]])).shape == (1, 2, 8)


def test_a_model_without_open_clips_token_embedding_is_left_as_it_is() -> None:
    model = nn.Sequential(nn.Embedding(10, 8))
    assert train_used_tokens(model, torch.tensor([[1]])) == [] and isinstance(model[0], nn.Embedding)
