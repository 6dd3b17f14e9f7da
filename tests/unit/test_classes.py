"""Lists of test classes."""

from __future__ import annotations

import pytest

from domix.data.classes.test_classes import load_test_classes, shipped_lists
from domix.runtime.errors import DataError, ParameterError

CLASSES = ["axe", "banana", "ice cream", "t-shirt", "The Eiffel Tower"]


def test_names_come_back_in_the_order_of_the_data():
    assert load_test_classes(["ice cream", "axe"], CLASSES) == ["axe", "ice cream"]


def test_blanks_underscores_and_case_do_not_matter():
    assert load_test_classes(["ice_cream", "the_eiffel_tower"], CLASSES) == ["ice cream", "The Eiffel Tower"]


def test_unicode_form_does_not_matter():
    assert load_test_classes(["cafe\u0301"], ["axe", "caf\u00e9"]) == ["caf\u00e9"]


def test_a_name_that_two_classes_may_have_means_the_one_that_is_spelled_so():
    assert load_test_classes(["Mug"], ["Mug", "mug"]) == ["Mug"]
    with pytest.raises(DataError, match="the test class 'MUG' may mean 'Mug' or 'mug': spell it as the data do"):
        load_test_classes(["MUG"], ["Mug", "mug"])


def test_data_may_write_underscores():
    assert load_test_classes(["ice cream"], ["axe", "ice_cream"]) == ["ice_cream"]


def test_shipped_lists_are_those_of_the_studies():
    assert shipped_lists() == ["domainnet", "emoji", "emoji-550"]


def test_domainnet_list_has_the_papers_classes():
    paper = ["aircraft carrier", "axe", "banana", "barn", "bed", "candle", "lion", "mountain", "necklace", "penguin"]
    paper += ["pizza", "saxophone", "television", "tractor", "traffic light"]
    assert load_test_classes("domainnet", ["zebra", *paper]) == paper


def test_unknown_list_suggests_the_nearest():
    with pytest.raises(ParameterError, match=r"no shipped list 'emojis'; did you mean emoji\?"):
        load_test_classes("emojis", CLASSES)


def test_unknown_list_without_a_near_one_names_all():
    with pytest.raises(ParameterError, match="known: domainnet, emoji"):
        load_test_classes("quux", CLASSES)


def test_absent_class_suggests_the_nearest():
    with pytest.raises(DataError, match=r"test class 'bananna' is not among the 5 classes.*did you mean 'banana'"):
        load_test_classes(["axe", "bananna"], CLASSES)


def test_absent_class_of_a_shipped_list_names_the_list():
    with pytest.raises(DataError, match="'aircraft carrier' of the list 'domainnet' is not among"):
        load_test_classes("domainnet", CLASSES)


@pytest.mark.parametrize("spec", [[], ["axe", "axe"], ["ice cream", "ice_cream"]])
def test_empty_and_doubled_lists_are_refused(spec):
    with pytest.raises(ParameterError, match=r"empty|twice"):
        load_test_classes(spec, CLASSES)
