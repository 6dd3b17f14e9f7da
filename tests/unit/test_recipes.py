"""Names of mixtures: what each stands for, the reference study's names, and mistakes answered in one sentence."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from domix.data.mixtures.aliases import alias
from domix.data.mixtures.cells import Split
from domix.data.mixtures.names import parse_mixture, parse_mixtures, reference_names
from domix.data.mixtures.recipes import WHOLE
from domix.runtime.errors import ParameterError

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
SPLIT = Split("quickdraw", "real", ("axe", "lion"), DOMAINS, ("axe", "lion", "pizza"))
COLLIDING = Split("pastel", "real", ("axe",), ("pastel", "pencil", "real"), ("axe", "lion"))


@pytest.mark.parametrize(
    ("name", "theirs", "letters", "share"),
    [
        ("natural-only", "lso-real-only", "r", 0),
        ("leave-out-domain", "lso-ciprs-noquickdrawclasses", "ciprs", 0),
        ("cg-low", "lso-qr-noquickdrawclasses", "qr", 0),
        ("cg-high", "lso-cipqrs-noquickdrawclasses", "cipqrs", 0),
        ("cg-low-all", "lso-qr-noquickdrawclasses-pseudo", "qr", 1),
        ("cg-high-all", "lso-cipqrs-noquickdrawclasses-pseudo", "cipqrs", 1),
        ("cg-high+0.1", "lso-cipqrs-noquickdrawclasses-allow0.1", "cipqrs", Fraction(1, 10)),
        ("cg-low+0.05", "lso-qr-noquickdrawclasses-allow0.05", "qr", Fraction(1, 20)),
        ("cg-low+painting+sketch", "lso-pqrs-noquickdrawclasses", "pqrs", 0),
        ("cg-low+painting+0.2", "lso-pqr-noquickdrawclasses-allow0.2", "pqr", Fraction(1, 5)),
        ("cg-low-all+painting", "lso-pqr-noquickdrawclasses-pseudo", "pqr", 1),
        ("cg-high+aligned", "lso-cipqrs-noquickdrawclasses-aligned", "cipqrs", 0),
        ("cg-high+0.1+aligned", "lso-cipqrs-noquickdrawclasses-allow0.1-aligned", "cipqrs", Fraction(1, 10)),
        ("natural-only+aligned", "lso-real-only-aligned", "r", 0),
        ("cg-high+whole", "lso-cipqrs-noquickdrawclasses-nosub", "cipqrs", 0),
        ("cg-high-all+whole+aligned", "lso-cipqrs-noquickdrawclasses-nosub-pseudo-aligned", "cipqrs", 1),
        ("leave-out-domain+whole", "lso-ciprs-noquickdrawclasses-nosub", "ciprs", 0),
        ("cg-low+painting+whole", "lso-pqr-noquickdrawclasses-nosub", "pqr", 0),
        ("cg-high+matched", "lso-cipqrs-noquickdrawclasses-matched", "cipqrs", 0),
        ("cg-low+0.2+matched", "lso-qr-noquickdrawclasses-allow0.2-matched", "qr", Fraction(1, 5)),
    ],
)
def test_a_name_and_its_alias_stand_for_one_mixture(name, theirs, letters, share):
    one, two = parse_mixture(name, SPLIT), parse_mixture(theirs, SPLIT)
    for recipe in (one, two):
        assert "".join(domain[0] for domain in recipe.domains) == letters
        assert recipe.share == share
        assert recipe.caption == ("aligned" if "aligned" in name else "standard")
        assert alias(recipe, SPLIT) == theirs
        assert recipe.standard_name(SPLIT) == name
    assert (one.name, two.name) == (name, theirs)
    assert replace(one, name="") == replace(two, name="")


def test_only_natural_only_keeps_its_own_size():
    names = ("natural-only", "cg-low", "leave-out-domain")
    assert [name for name in names if parse_mixture(name, SPLIT).size == WHOLE] == ["natural-only"]


SKETCH = replace(SPLIT, test_domain="sketch")


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("natural-only+sketches", "lso-real-only-with-in-sketches"),
        ("leave-out-domain+sketches", "lso-cipqr-nosketchclasses-with-in-sketches"),
        ("cg-high+sketches", "lso-cipqrs-nosketchclasses-with-in-sketches"),
        ("cg-high+sketches-fiftyp", "lso-cipqrs-nosketchclasses-with-in-sketches-fiftyp"),
        ("cg-high+sketches-onep", "lso-cipqrs-nosketchclasses-with-in-sketches-onep"),
        ("cg-high+sketches-one", "lso-cipqrs-nosketchclasses-with-in-sketches-one"),
    ],
)
def test_names_with_sketches(name, theirs):
    recipe = parse_mixture(name, SKETCH)
    assert alias(recipe, SKETCH) == theirs
    assert recipe.standard_name(SKETCH) == parse_mixture(theirs, SKETCH).standard_name(SKETCH) == name


@pytest.mark.parametrize(
    ("base", "prefix", "shown"),
    [
        ("cc3m", "cc3m-train-", "cc3m-train-"),
        ("cc12m", "cc12m-train-", "cc12m-train-"),
        ("imagenet-captions", "combined-captions-train-", ""),
    ],
)
def test_the_references_names_say_the_base(base, prefix, shown):
    for name in ("lso-real-only", "lso-qr-noquickdrawclasses-pseudo"):
        recipe = parse_mixture(prefix + name, SPLIT, base=[base])
        assert recipe.base == (base,)
        assert alias(recipe, SPLIT) == shown + name
        for wrong in ([], ["web"], [base, "web"]):
            with pytest.raises(ParameterError, match=rf"has the base {base}, but base is .*: set base to \[{base}\]"):
                parse_mixture(prefix + name, SPLIT, base=wrong)
    assert alias(parse_mixture("cg-low", SPLIT, base=[base, "web"]), SPLIT) == "lso-qr-noquickdrawclasses"


def test_the_references_mixtures_are_listed_for_any_data():
    assert len(reference_names(SPLIT)) == 6 + 12 + 1
    assert reference_names(SPLIT)[-1] == "cg-high+aligned"
    assert len(reference_names(SKETCH)) == 6 + 12 + 9
    assert len(reference_names(SKETCH, sketches=True)) == 6 + 12 + 9 + 10
    assert reference_names(SPLIT, base=["cc3m"]) == ["natural-only", "cg-low", "cg-high", "leave-out-domain"]
    few = replace(SKETCH, domains=("clipart", "painting", "real", "sketch"))
    assert reference_names(few)[18:] == ["cg-low+painting", "cg-low+clipart"]
    assert len(reference_names(replace(few, domains=few.domains[1:]))) == 18  # with painting it is cg-high
    for split in (SPLIT, SKETCH):
        parse_mixtures(reference_names(split, sketches=True), split)


def test_the_order_of_what_follows_does_not_matter():
    one, two = (parse_mixture(f"cg-low+{rest}", SPLIT) for rest in ("sketch+0.1+painting", "painting+sketch+0.1"))
    assert one.domains == two.domains == ("painting", "quickdraw", "real", "sketch")
    assert one.standard_name(SPLIT) == two.standard_name(SPLIT)


def test_domains_are_found_in_every_unicode_form():
    split = replace(SPLIT, domains=("caf\u00e9", *SPLIT.domains))
    assert "caf\u00e9" in parse_mixture("cg-low+cafe\u0301", split).domains


def test_all_domains_added_to_cg_low_make_cg_high():
    name = "cg-low+clipart+infograph+painting+sketch"
    assert parse_mixture(name, SPLIT).standard_name(SPLIT) == "cg-high"
    with pytest.raises(ParameterError, match="are the same mixture"):
        parse_mixtures([name, "cg-high"], SPLIT)


def test_domains_with_like_initials_are_joined_by_full_names():
    recipe = parse_mixture("cg-low", COLLIDING)
    assert alias(recipe, COLLIDING) == "lso-pastel.real-nopastelclasses"
    assert parse_mixture(alias(recipe, COLLIDING), COLLIDING).domains == ("pastel", "real")
    high = parse_mixture("lso-pastel.pencil.real-nopastelclasses-pseudo", COLLIDING)
    assert high.standard_name(COLLIDING) == "cg-high-all"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cg-hihg", "did you mean 'cg-high'"),
        ("everything", "known are natural-only"),
        ("", "is unknown"),
        ("cg-low+paintin", "did you mean 'painting'"),
        ("cg-low+alined", "did you mean 'aligned'"),
        ("cg-low+quickdraw", "holds domain 'quickdraw' already"),
        ("cg-low+real", "holds domain 'real' already"),
        ("cg-low+sketch+sketch", "repeats 'sketch'"),
        ("cg-low+0.1+0.2", "repeats '0.2'"),
        ("cg-low+whole+matched", "repeats 'matched'"),
        ("natural-only+matched", "has its own size always: leave '\\+matched' out"),
        ("natural-only+whole", "has its own size always"),
        ("cg-high+0.1+whole", "goes with size matching"),
        ("cg-high+sketches-half", "did you mean 'sketches"),
        ("lso-real-only-nosub", "has its own size always"),
        ("lso-real-only-with-in-sketches-one", "only cg-high has sketches"),
        ("lso-qr-noquickdrawclasses-nosub-allow0.1", "goes with neither -allow nor -matched"),
        ("lso-qr-noquickdrawclasses-aligned-pseudo", "'-aligned-pseudo' is not what may follow"),
        ("cg-high+sketch", "cg-low and cg-low-all alone"),
        ("natural-only+0.1", "fits cg-low and cg-high, not natural-only"),
        ("leave-out-domain+0.1", "not leave-out-domain"),
        ("cg-high-all+0.1", "not cg-high-all"),
        ("cg-high+1.5", "between 0 and 1"),
        ("cg-high+0", "between 0 and 1"),
        ("cg-high+1", "use cg-...-all"),
        ("lso-qr", "not one of the reference's names"),
        ("lso-rs-nosketchclasses", "test_domain is 'quickdraw'"),
        ("lso-qx-noquickdrawclasses", "does not stand for domains"),
        ("lso-rq-noquickdrawclasses", "does not stand for domains"),
        ("lso-cq-noquickdrawclasses", "with 'real' among them"),
        ("lso-cr-noquickdrawclasses", "without the test domain"),
        ("lso-qr-noquickdrawclasses-pseudo-allow0.1", "no share can be given"),
        ("lso-qr-noquickdrawclasses-allow2.0", "between 0 and 1"),
    ],
)
def test_a_wrong_name_is_answered_in_one_sentence(name, message):
    with pytest.raises(ParameterError, match=message) as caught:
        parse_mixture(name, SPLIT)
    assert "\n" not in str(caught.value)
    assert repr(name) in str(caught.value)


def test_two_names_of_one_mixture_are_refused():
    with pytest.raises(ParameterError, match=r"'cg-high' and 'lso-cipqrs-noquickdrawclasses' are the same mixture"):
        parse_mixtures(["cg-high", "lso-cipqrs-noquickdrawclasses"], SPLIT)
    assert len(parse_mixtures(["cg-high", "cg-high+aligned", "cg-high+0.1", "cg-high-all"], SPLIT)) == 4
