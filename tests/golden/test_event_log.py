"""The event log of a short run is, bit for bit, the one that was written down."""

import importlib.util
import json
from pathlib import Path


def test_the_event_log_is_the_one_written_down() -> None:
    spec = importlib.util.spec_from_file_location("golden_update", Path(__file__).with_name("update.py"))
    assert spec is not None
    assert spec.loader is not None
    update = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(update)
    assert update.play() == json.loads(update.PLACE.read_text()), "meant? then: python tests/golden/update.py"
