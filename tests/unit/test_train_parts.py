"""The parts of a training: schedule, optimiser groups, devices and precision, saved states."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from domix.model import clip
from domix.runtime.errors import ParameterError
from domix.runtime.files import digest_of
from domix.runtime.settings import replace
from domix.train import machine, optim, resume
from domix.train.schedule import Milestones, WarmupCosine, step_of_epoch, total_steps, warmup_steps
from tests.tiny import CONFIG, TRAINER, make_job


def test_the_learning_rate_rises_to_its_peak_and_falls_towards_zero() -> None:
    schedule = WarmupCosine(1.0, 10, 110)
    rates = [schedule(step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == max(rates) == 1.0
    assert rates[60] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    assert WarmupCosine(1.0, 0, 5)(0) == 1.0


def test_the_learning_rate_falls_at_each_milestone() -> None:
    """The step of that number, counted from 0, is the first to be taken at the lower rate."""
    schedule = Milestones(0.8, (3, 5), 0.5)
    assert [schedule(step) for step in range(7)] == pytest.approx([0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_training_takes_whole_batches() -> None:
    assert total_steps(100, batch=8, samples=90, epochs=None) == 11
    assert total_steps(100, batch=8, samples=88, epochs=None) == 11
    assert total_steps(100, batch=8, samples=8, epochs=None) == 1
    assert total_steps(100, batch=8, samples=None, epochs=3) == 37
    with pytest.raises(ParameterError, match="asks for 7 samples in all, less than one batch of 8"):
        total_steps(100, batch=8, samples=7, epochs=None)


def test_warmup_is_a_number_of_steps_or_a_share() -> None:
    assert [warmup_steps(share, 300) for share in (0, 0.1, 1, 500)] == [0, 30, 1, 500]


def test_an_epoch_ends_with_the_step_that_completes_it() -> None:
    assert [step_of_epoch(epoch, count=10, batch=4) for epoch in range(4)] == [0, 3, 5, 8]


@pytest.mark.parametrize(
    ("present", "changes", "says"),
    [(0, {"accelerator": "gpu"}, "sees no CUDA GPU"), (1, {"accelerator": "gpu", "devices": 2}, "sees 1 GPUs")],
)
def test_absent_gpus_are_refused(
    monkeypatch: pytest.MonkeyPatch, present: int, changes: dict[str, Any], says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: present > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: present)
    with pytest.raises(ParameterError, match=says):
        machine.choose(replace(TRAINER, **changes))


@pytest.mark.parametrize(
    ("capabilities", "asked", "chosen"),
    [
        ({}, "auto", "32-true"),
        ({"avx512_bf16": True}, "auto", "bf16-mixed"),
        ({"amx_bf16": True}, "auto", "bf16-mixed"),
        ({"amx_bf16": True}, "32", "32-true"),
        ({}, "bf16", "bf16-mixed"),
    ],
)
def test_bf16_is_used_where_it_is_native_or_asked_for(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], asked: str, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert machine.choose(replace(TRAINER, precision=asked)).precision == chosen


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    threads = [machine.choose(replace(TRAINER, devices=d, threads=t)).threads for d, t in ((1, 0), (4, 0), (4, 3))]
    assert threads == [0, 2, 3]


def trained(seed: int = 0) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model = clip.build(CONFIG, seed=seed).to(memory_format=torch.channels_last)
    optimizer = optim.make_adamw(model, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6)
    for weight in model.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    return model, optimizer


def test_a_saved_state_restores_weights_moments_and_their_layout(tmp_path: Path) -> None:
    model, optimizer = trained()
    store = resume.Store(tmp_path)
    store.save(resume.State(4, resume.pack(model, optimizer), {"rows": [[1, 0.1]], "losses": [1 / 3]}))
    state = store.latest()
    assert state is not None
    assert (state.step, state.notes) == (4, {"rows": [[1, 0.1]], "losses": [1 / 3]})

    again = clip.build(CONFIG, seed=9).to(memory_format=torch.channels_last)
    restored = optim.make_adamw(again, lr=1e-3, weight_decay=0.1, betas=(0.9, 0.98), eps=1e-6)
    resume.unpack_model(state.tensors, again, tmp_path)
    resume.unpack_optimizer(state.tensors, again, restored)
    for mine, other in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert mine.stride() == other.stride()
        assert optimizer.state[mine].keys() == restored.state[other].keys()
        for key, value in optimizer.state[mine].items():
            assert torch.equal(value, restored.state[other][key])
            assert value.stride() == restored.state[other][key].stride()


def test_the_newest_two_states_are_kept(tmp_path: Path) -> None:
    store = resume.Store(tmp_path)
    for step in (3, 20, 100):
        store.save(resume.State(step, {"model/x": torch.ones(1)}, {}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000020", "step_00000100"]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "no json", "empty json", "no tensors"])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path: Path, damage: str) -> None:
    store = resume.Store(tmp_path)
    for step in (1, 2):
        store.save(resume.State(step, {"model/x": torch.full((1000,), float(step))}, {}))
    tensors, described = tmp_path / "step_00000002/state.safetensors", tmp_path / "step_00000002/state.json"
    data = tensors.read_bytes()
    match damage:
        case "truncated":
            tensors.write_bytes(data[:-7])
        case "flipped":
            tensors.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        case "no json":
            described.unlink()
        case "empty json":
            described.write_text("")
        case "no tensors":
            tensors.unlink()
    state = store.latest()
    assert state is not None
    assert state.step == 1
    assert state.tensors["model/x"][0] == 1


def test_a_state_of_other_code_is_not_gone_on_from(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    resume.Store(tmp_path, code="one").save(resume.State(3, {"model/x": torch.ones(1)}, {}))
    assert resume.Store(tmp_path, code="other").latest() is None
    assert f"the saved states in {tmp_path} are of other code: the training begins anew" in caplog.text
    state = resume.Store(tmp_path, code="one").latest()  # nothing is lost
    assert state is not None and state.step == 3


def test_the_digest_tells_trainings_apart() -> None:
    digests = {digest_of(seed=seed, lr=lr) for seed in (0, 1) for lr in (0.1, 0.2)}
    assert len(digests) == 4
    assert digest_of(seed=0, lr=0.1) == digest_of(lr=0.1, seed=0)


def test_captions_are_cut_where_asked_to() -> None:
    job = make_job(context=5)
    tokens = job.task.targets(job.task.build(0))
    assert tokens.shape == (20, 5)
    assert set(tokens[:, -1].tolist()) == {49407}
    assert make_job(context=99).task.targets(job.task.build(0)).shape == (20, 8)  # as trim


@pytest.mark.parametrize("change", [{"custom_text": True}, {"text_cfg": CONFIG["text_cfg"] | {"no_causal_mask": True}}])
def test_captions_are_not_cut_for_a_tower_that_reads_all(change: dict[str, Any]) -> None:
    job = make_job(config=CONFIG | change, context=5)
    with pytest.raises(ParameterError, match=r"train\.context is 5, but .* tiny reads its whole context of 16"):
        job.task.targets(job.task.build(0))
