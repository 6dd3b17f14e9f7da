"""params.yaml is loaded strictly: every mistake is one sentence that names the key."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from domix.analyses.registry import analyses
from domix.runtime.errors import DomixError, ParameterError
from domix.settings.load import load

ROOT = Path(__file__).resolve().parents[2]
PRESETS = ("smoke", "mini", "aligned", "paper", "cc3m", "cc12m")
MINI = YAML(typ="safe", pure=True).load((ROOT / "presets" / "mini.yaml").read_text(encoding="utf-8"))


def text_with(**changes: Any) -> str:
    """Return the mini preset as text, with changes: `train__lr=1` sets train.lr; `...` (Ellipsis) removes the key."""
    tree = copy.deepcopy(MINI)
    for name, value in changes.items():
        *path, key = name.split("__")
        node = tree
        for step in path:
            node = node[step]
        if value is ...:
            del node[key]
        else:
            node[key] = value
    stream = io.StringIO()
    YAML().dump(tree, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(name: str) -> None:
    params = load((ROOT / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert params.test_domain != params.natural_domain
    assert params.mixtures


def test_no_preset_is_left_out_of_the_tests() -> None:
    assert {path.stem for path in (ROOT / "presets").glob("*.yaml")} == set(PRESETS)


def test_the_preset_of_captions_is_the_default_study_but_for_what_it_compares() -> None:
    """Its models are of the default study's size, and its maps those of the paper."""
    text = (ROOT / "presets/aligned.yaml").read_text(encoding="utf-8")
    mini, aligned = load(text_with()), load(text)
    changed = {name for name in type(mini).model_fields if getattr(mini, name) != getattr(aligned, name)}
    assert changed == {"test_domain", "mixtures", "analyses", "report"}
    assert (aligned.test_domain, aligned.mixtures) == ("quickdraw", ["cg-high", "cg-high+aligned"])
    for name in set(mini.analyses) - {"separation"}:
        mine, theirs = mini.analyses[name].model_dump(), aligned.analyses[name].model_dump()
        assert theirs == mine | ({"mixtures": aligned.mixtures} if "mixtures" in mine else {})
    assert aligned.analyses["separation"].model_dump() == mini.analyses["separation"].model_dump() | {
        "densmap": True,
        "without": "quickdraw",
    }


@pytest.mark.parametrize("name", ["paper", "cc3m", "cc12m"])
def test_the_reference_study_s_presets_have_its_maps_and_its_median(name: str) -> None:
    found = load((ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8")).analyses
    maps = {"images": 2000, "neighbours": 15, "min_distance": 0.1, "densmap": True, "without": "quickdraw", "seed": 42}
    assert found["separation"].model_dump() == maps
    assert found["cka"].model_dump() == {"kernels": ["linear", "rbf"], "median": "lower"}


def test_the_committed_params_yaml_loads() -> None:
    assert load((ROOT / "params.yaml").read_text(encoding="utf-8")).seeds


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"test_domian": "sketch"}, "unknown parameter test_domian: did you mean test_domain?"),
        ({"train__learning_rte": 1.0}, "unknown parameter train.learning_rte"),
        ({"train__warmpu": 0.1}, "did you mean train.warmup?"),
        (
            {"models": {"ViT.1": {"architecture": None, "weights": "x"}}},
            "models: a name holds letters, digits, - and _",
        ),
        ({"models": {"../x": {"architecture": None, "weights": "x"}}}, "models: a name holds letters"),
        ({"models": {"ViT-B_32": {"architecture": None}}}, "models.ViT-B_32.weights is missing"),
        ({"zzz": 1}, "unknown parameter zzz: known here: test_domain, "),
        ({"train__lr": ...}, "parameter train.lr is missing"),
        ({"seeds": ...}, "parameter seeds is missing"),
        ({"analyses": ...}, "parameter analyses is missing"),
        ({"analyses__ckaa": {}}, "analyses.ckaa: there is no analysis ckaa: did you mean cka?"),
        ({"analyses__qqqq": {}}, f"analyses.qqqq: there is no analysis qqqq: known here: {', '.join(analyses())}"),
        (
            {"analyses__cka": {"kernel": ["rbf"]}},
            "unknown parameter analyses.cka.kernel: did you mean analyses.cka.",
        ),
        ({"analyses__cka": {"kernels": ["poly"]}}, "analyses.cka.kernels[0] must be one of linear, rbf, not 'poly'"),
        ({"analyses__cka": {"median": "upper"}}, "analyses.cka.median must be one of mean, lower, not 'upper'"),
        ({"analyses__separation": {"seed": "one"}}, "analyses.separation.seed must be a whole number, not 'one'"),
        ({"analyses__leakage": None}, "analyses.leakage must be a mapping, not nothing"),
        ({"train__batch": "many"}, "train.batch must be a whole number, not 'many'"),
        ({"train__batch": 2.5}, "train.batch must be a whole number, not 2.5"),
        ({"train__batch": True}, "train.batch must be a whole number, not True"),
        ({"train__lr": "1e-3"}, "train.lr must be a number, not '1e-3'"),
        ({"train__lr": False}, "train.lr must be a number, not False"),
        ({"trainer__compile": 1}, "trainer.compile must be true or false, not 1"),
        ({"test_domain": None}, "test_domain must be text, not nothing"),
        ({"train": 3}, "train must be a mapping, not 3"),
        ({"mixtures": "cg-low"}, "mixtures must be a list, not 'cg-low'"),
        ({"seeds": [0, "one"]}, "seeds[1] must be a whole number, not 'one'"),
        ({"test_classes": 5}, "test_classes must be text or a list of text, not 5"),
        ({"trainer__precision": "fp8"}, "trainer.precision must be one of auto, 32, bf16, fp16, not 'fp8'"),
        ({"fetch__paths": ["data"]}, "fetch.paths must be a mapping"),
        ({"fetch__paths": {"emoji": 3}}, "fetch.paths.emoji must be text, not 3"),
    ],
)
def test_a_mistyped_unknown_or_missing_key_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError) as caught:
        load(text_with(**changes))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"test_domain": MINI["natural_domain"]}, "test_domain"),
        ({"mixtures": []}, "mixtures"),
        ({"base": ["emoji"]}, "base names 'emoji', which is not among the sources after the first"),
        ({"base": ["web"]}, "base names 'web'"),
        ({"seeds": [1, 1]}, "seeds"),
        ({"pack__size": 4}, "pack.size"),
        ({"pack__poses": 0}, "pack.poses"),
        ({"pack__shard_samples": 0}, "pack.shard_samples"),
        ({"pack__max_bad_share": 1.5}, "pack.max_bad_share"),
        ({"pack__workers": -1}, "pack.workers"),
        ({"train__samples": None}, "train.samples"),
        ({"train__epochs": 3}, "train.epochs"),
        ({"train__lr": 0}, "train.lr"),
        ({"train__warmup": -1}, "train.warmup"),
        ({"trainer__threads": -1}, "trainer.threads"),
        ({"train__hflip": 2.0}, "train.hflip"),
        ({"train__crop_scale": [0.9, 0.1]}, "train.crop_scale"),
        ({"train__crop_scale": [0.5, 1.5]}, "train.crop_scale"),
        ({"train__crop_ratio": [1.0]}, "train.crop_ratio"),
        ({"train__betas": [0.9]}, "train.betas"),
        ({"trainer__devices": 3}, "trainer.devices"),
        ({"train__accumulate": 3}, "train.accumulate"),
        ({"train__bn_group": 48}, "train.bn_group"),
        ({"train__context": 2}, "train.context"),
        ({"supervised__mixtures": ["cg-nothing"]}, "supervised.mixtures"),
        ({"supervised__milestones": [5, 3]}, "supervised.milestones"),
        ({"validation__template": "a photo"}, "validation.template"),
        ({"validation__every": 0}, "validation.every"),
        ({"trainer__keep_states": 0}, "trainer.keep_states"),
        ({"embed__batch": 0}, "embed.batch"),
        ({"embed__templates": "a photo"}, "embed.templates"),
        ({"embed__sets": ["emoji"], "embed__ood": {}}, "embed.sets"),
        ({"embed__sets": []}, "embed.ood"),
        ({"embed__ood": {"emoji-ood": "middling"}}, "embed.ood"),
        ({"evaluate__bootstrap": 10}, "evaluate.bootstrap"),
        ({"evaluate__confidence": 1.0}, "evaluate.confidence"),
        ({"evaluate__top_k": 0}, "evaluate.top_k"),
        ({"analyses__separation": {"images": 1}}, "analyses.separation.images"),
        ({"analyses__separation": {"neighbours": 1}}, "analyses.separation.neighbours"),
        ({"analyses__cka": {"kernels": []}}, "analyses.cka.kernels"),
        ({"analyses__run_cka": {"batch": 3}}, "analyses.run_cka.batch"),
        ({"analyses__run_cka": {"images": 3}}, "analyses.run_cka.images"),
        ({"analyses__run_cka": {"sites": []}}, "analyses.run_cka.sites"),
        ({"analyses__leakage": {"similarity": 0.0}}, "analyses.leakage.similarity"),
        ({"analyses__leakage": {"examples": -1}}, "analyses.leakage.examples"),
    ],
)
def test_a_value_out_of_range_is_refused(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(ParameterError, match=names.replace(".", r"\.")):
        load(text_with(**changes))


@pytest.mark.parametrize("written", ["1e-3", "1.0e-3", "0.001"])
def test_numbers_are_read_as_yaml_1_2(written: str) -> None:
    text = text_with(train__lr=12345.5).replace("12345.5", written)
    assert load(text).train.lr == 0.001


def test_a_whole_number_serves_as_a_number() -> None:
    lr = load(text_with(train__lr=1)).train.lr
    assert lr == 1.0
    assert isinstance(lr, float)


def test_warmup_keeps_steps_and_share_apart() -> None:
    assert isinstance(load(text_with(train__warmup=10)).train.warmup, int)
    assert isinstance(load(text_with(train__warmup=0.1)).train.warmup, float)


@pytest.mark.parametrize("text", ["a: [1, 2", "a: b: c", "\t- x"])
def test_text_that_is_not_yaml_is_one_sentence(text: str) -> None:
    with pytest.raises(ParameterError, match="not valid YAML") as caught:
        load(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "- 1\n", "word"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="the file must be a mapping"):
        load(text)


def test_parameters_cannot_be_changed_after_loading() -> None:
    params = load(text_with())
    with pytest.raises(AttributeError):
        params.test_domain = "sketch"  # type: ignore[misc]  # ty: ignore[invalid-assignment]


def test_a_parameter_error_is_shown_without_a_stack_trace() -> None:
    assert issubclass(ParameterError, DomixError)


def test_domains_are_read_in_the_unicode_form_in_which_sources_name_them() -> None:
    own = {"domains": {"de\u0301": 1.0}}
    params = load(text_with(test_domain="de\u0301", recipes={"mine": own}))
    assert params.test_domain == "d\u00e9"
    assert params.recipes["mine"].domains == {"d\u00e9": 1.0}


@pytest.mark.parametrize("key", ["sources", "mixtures", "embed__sets"])
@pytest.mark.parametrize("name", ["", "a/b", "a@b", "../a", ".a", "a\nb", "a\0b", "é" * 101])
def test_names_that_files_and_stages_cannot_have(key: str, name: str) -> None:
    with pytest.raises(ParameterError, match=f"{key.replace('__', '.')} names .*, by which files and DVC's"):
        load(text_with(**{"embed__ood": {}, key: [name]}))


def test_all_other_names_may_be_given() -> None:
    load(text_with(mixtures=["cg-low+Real World", "cg-low+R&B", "L'Art", "a:b;c|d", "é" * 100]))
