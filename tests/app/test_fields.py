"""A slider and the box beside it: each follows the other, and neither writes back to what the visitor holds in his hand."""

import param
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # of Panel's own parts


@pytest.fixture
def field():
    from experiments.app.controls import Changeable
    from experiments.app.fields import Field

    changeable, changes = Changeable("first-hour"), []
    made = Field(changeable.controls["depth"], changeable.own["depth"], 1.0, lambda: changes.append(made.value), "A")
    made.changes = changes
    return made


def move(field, to):
    """As the browser does: the value follows the handle, and stays when it is let go."""
    field._bar.value = to
    field._bar.param.trigger("value")
    with param.edit_constant(field._bar):
        field._bar.value_throttled = to


def test_the_slider_writes_the_box_and_is_left_alone(field):
    move(field, 0.7000000000000001)
    assert field._box.value == "0.7" and field.value == 0.7
    assert field._bar.value == 0.7000000000000001, "what the visitor holds is not moved under his hand"
    assert field.changes == [0.7]


def test_the_box_moves_the_slider_as_often_as_it_is_typed_into(field):
    for text, value in (("0.5", 0.5), ("0,7", 0.7), ("2", 2.0), ("0.5", 0.5)):
        field._box.value = text
        assert field._bar.value == field.value == value
    move(field, 3.0)
    field._box.value = "0.5"
    assert field._bar.value == field.value == 0.5


@pytest.mark.parametrize("text", ["7", "much", "", "nan", "inf"])
def test_what_is_wrong_is_said_and_not_taken(field, text):
    field._box.value = text
    assert "write a number from 0.1 to 4" in field._said.object and field._said.visible
    assert field.value == 1.0 and not field.changes
    field._box.value = "0.5"
    assert not field._said.visible and field.value == 0.5


def test_back_to_the_scenario(field):
    field._box.value = "0.5"
    field.reset()
    assert (field.value, field._bar.value, field._box.value) == (1.0, 1.0, "1")
