"""Every guide of the table reads its own example, and says what it needs."""

import pytest

from unnoise.errors import BadInput
from unnoise.pipeline.guides import GUIDES, parse
from unnoise.pipeline.guides.table import Value


@pytest.mark.parametrize("name", GUIDES)
def test_its_example_is_understood_and_a_value_is_asked_for(name):
    guide = GUIDES[name]
    if guide.value is Value.NONE:
        assert not guide.example and parse(name).value == ""
        with pytest.raises(BadInput, match="takes a weight only"):
            parse(f"{name}=anything")
    else:
        assert parse(f"{name}={guide.example}").value == guide.example
        with pytest.raises(BadInput, match=f"{name}={guide.example}"):
            parse(name)


def test_the_help_of_the_command_names_them_all():
    from unnoise.cli import common

    for name in GUIDES:
        assert name in common._GUIDE
