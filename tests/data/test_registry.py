from __future__ import annotations

import pytest

from dynadiag import data


def test_names_say_what_is_needed() -> None:
    names = data.names()
    assert names["stdlib-text"] == "needs no files"
    assert "root=" in names["cifar10"]


def test_unknown_names_and_options_list_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown data set 'digit'; known are digits, stdlib-text"):
        data.load("digit")
    with pytest.raises(ValueError, match="'stdlib-text' has no option 'size'; it has context"):
        data.load("stdlib-text", size=3)
    with pytest.raises(ValueError, match="'digits' has no option 'context'; it has fold"):
        data.load("digits", context=3)


@pytest.mark.parametrize("name", [n for n, need in data.names().items() if "root=" in need])
def test_local_data_asks_for_its_folder(name: str) -> None:
    with pytest.raises(ValueError, match=r"pass root= \(.* --data\), the folder that holds"):
        data.load(name)
