"""What the drivers in Python share. An ability is asked for by its name on a line of stdin; what the client made of it is
a line of JSON on stdout. What is asked of the gateway stands in the first argument, the same for all clients."""

import json
import os
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

asked = json.loads(sys.argv[1], object_hook=lambda fields: SimpleNamespace(**fields))
messages = [{"role": "user", "content": asked.message}]

# Libraries print as they like: the real stdout is kept for the answers.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def serve(version, abilities):
    """Says which version of the client this is and what it can do, then does what is asked, one ability after another."""
    tell({"version": version, "abilities": list(abilities)})
    for line in sys.stdin:
        try:
            tell({"facts": abilities[line.strip()]()})
        except BaseException as error:  # also a client that exits
            tell({"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"})


def tell(answer):
    print(json.dumps(answer), file=answers, flush=True)


def together(ask):
    """Asks with each of the seeds at once."""
    with ThreadPoolExecutor(len(asked.seeds)) as pool:
        return list(pool.map(ask, asked.seeds))


def refused(error, ask, param=None):
    """Asks for what is refused: the client's own type of error, with what it says of it."""
    try:
        ask()
    except error as failure:
        return {"status": failure.status_code, **({} if param is None else {"param": param(failure)})}
    raise AssertionError("it was not refused")
