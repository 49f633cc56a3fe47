"""Run a script, then print the number of compilation requests and of cache hits, as JSON.

python counted_start.py train|evaluate|predict ARGUMENTS
"""

import json
import sys
from collections import Counter

import jax.monitoring
import scripts

FOLDER = "/jax/compilation_cache/"


def main(name: str, arguments: list[str]) -> None:
    counted: Counter[str] = Counter()
    jax.monitoring.register_event_listener(lambda event, **_: counted.update([event]))
    scripts.load(name).main(arguments)
    print(
        json.dumps([counted[FOLDER + "compile_requests_use_cache"], counted[FOLDER + "cache_hits"]])
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
