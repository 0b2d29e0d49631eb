"""A slider and the box beside it: each follows the other, and neither writes back to what the visitor holds in his hand."""

import pytest

from experiments.app.controls import Changeable
from experiments.app.fields import Field, Fields


@pytest.fixture
def field():
    changeable, changes = Changeable("first-hour"), []
    made = Field(changeable.controls["depth"], changeable.own["depth"], 1.0, lambda: changes.append(made.value), "A")
    made.changes = changes
    return made


def test_the_slider_writes_the_box_and_is_left_alone(field):
    field.slider.value = 0.7000000000000001
    assert field.box.value == "0.7" and field.value == 0.7
    assert field.slider.value == 0.7000000000000001, "what the visitor holds is not moved under his hand"
    assert field.changes == [0.7]


def test_the_box_moves_the_slider_as_often_as_it_is_typed_into(field):
    for text, value in (("0.5", 0.5), ("0,7", 0.7), ("2", 2.0), ("0.5", 0.5)):
        field.box.value = text
        assert field.slider.value == field.value == value
    field.slider.value = 3.0
    field.box.value = "0.5"
    assert field.slider.value == field.value == 0.5


@pytest.mark.parametrize("text", ["7", "much", "", "nan", "inf"])
def test_what_is_wrong_is_said_and_not_taken(field, text):
    field.box.value = text
    assert "write a number from 0.1 to 4" in field.said.text
    assert field.value == 1.0 and not field.changes
    field.box.value = "0.5"
    assert not field.said.text and field.value == 0.5


def test_back_to_the_scenario(field):
    field.box.value = "0.5"
    field.reset()
    assert (field.value, field.slider.value, field.box.value) == (1.0, 1.0, "1")


def test_choices_and_switches_go_back_too():
    changes = []
    changeable = Changeable("february-2026-quick")
    given = {"A": {"margin": "full", "link.miners": "off", "depth": 2.0}, "B": {}}
    fields = Fields(changeable, given, lambda: changes.append(1))
    assert fields.settings("A") == given["A"] and not fields.settings("B")
    fields._fields["B"]["link.news"].box.active = []
    assert fields.settings("B") == {"link.news": "off"} and changes == [1]
    fields.reset()
    assert not fields.settings("A") and not fields.settings("B")
    fields.compare(False)
    assert not any(row.visible for row in fields._others) and len(fields._others) == len(changeable.controls)
