"""A plain run of PAMS, as in its own examples: 1 000 FCN agents, one order a step. It takes no tape."""

import json
import random
import sys
from time import perf_counter

from pams.logs.base import Logger
from pams.runners import SequentialRunner

STEPS = 2_000

repeat = int(sys.argv[2])


class Counter(Logger):
    orders = 0

    def process_order_log(self, log: object) -> None:
        self.orders += 1


def session(name: str, steps: int, execution: bool) -> dict[str, object]:
    return {
        "sessionName": name,
        "iterationSteps": steps,
        "withOrderPlacement": True,
        "withOrderExecution": execution,
        "withPrint": False,
        "maxNormalOrders": 1,
    }


SETTINGS = {
    "simulation": {
        "markets": ["Market"],
        "agents": ["FCNAgents"],
        "sessions": [session("opening", 100, False), session("trading", STEPS, True)],
    },
    "Market": {"class": "Market", "tickSize": 0.00001, "marketPrice": 300.0, "outstandingShares": 25000},
    "FCNAgents": {
        "class": "FCNAgent",
        "numAgents": 1000,
        "markets": ["Market"],
        "assetVolume": 50,
        "cashAmount": 10000,
        "fundamentalWeight": {"expon": [1.0]},
        "chartWeight": {"expon": [0.0]},
        "noiseWeight": {"expon": [1.0]},
        "meanReversionTime": {"uniform": [50, 100]},
        "noiseScale": 0.001,
        "timeWindowSize": [100, 200],
        "orderMargin": [0.0, 0.1],
    },
}

seconds = []
for seed in range(repeat):
    counter = Counter()
    runner = SequentialRunner(settings=SETTINGS, prng=random.Random(seed), logger=counter)
    runner._setup()
    start = perf_counter()
    runner._run()
    seconds.append(perf_counter() - start)
print(json.dumps({"seconds": seconds, "messages": counter.orders, "totals": {}}))
