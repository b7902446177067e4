"""One run of a study: train, or go on training, and print the results as a line of JSON."""

from __future__ import annotations

import json
import sys
import time

from rich.console import Console

from mlip.memory import keep_freed_memory
from mlip.report import plain
from mlip.training import train
from mlip.training.state import Clock


def main() -> None:
    keep_freed_memory()  # as the command line does
    config, overrides = json.loads(sys.argv[1])
    clock = Clock(time.process_time)  # equal minutes are equal on a busy machine, too; goes on in a resumed run
    result = train(config, overrides, resume=True, console=Console(stderr=True), clock=clock)
    if result.signal is not None:
        sys.exit(128 + result.signal)
    parameters = sum(p.numel() for p in result.model.parameters())
    facts = {"cpu_s": 60.0 * clock.minutes, "parameters": parameters, "steps": result.rows[-1]["step"]}
    sys.stdout.write(json.dumps(plain({**facts, **result.to_dict()})) + "\n")


if __name__ == "__main__":
    main()
