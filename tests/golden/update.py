"""Write `event_log.json` anew: python tests/golden/update.py. Nothing else changes it; say in the commit why the event log is another."""

import json
from pathlib import Path

import abm

PLACE = Path(__file__).with_name("event_log.json")
SCENARIO = "first-hour"
END = "2026-02-05T00:10Z"


def play() -> dict[str, object]:
    """What the short run leaves: the hash of its event log, and numbers that tell where to look when it differs."""
    summary = abm.run(abm.load(SCENARIO, clock={"end": END})).summary
    return {
        "scenario": SCENARIO,
        "end": END,
        **{key: summary[key] for key in ("seed", "messages", "trades", "events", "rejects", "event_log_hash")},
        "close": summary["instruments"]["btc-spot"]["close"],
    }


if __name__ == "__main__":
    PLACE.write_text(json.dumps(play(), indent=2) + "\n")
    print(f"wrote {PLACE.name}")
