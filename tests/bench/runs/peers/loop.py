"""The loop that most begin with: submit everything, ask for everything every five seconds, download what is finished.

`python -m tests.bench.runs.peers.loop BUCKET WORKERS`: one thread; the number of workers is not looked at.
"""

import sys
import time

from tests.bench.runs.peers import calls

_POLL_SECONDS = 5.0


def main(bucket: str) -> int:
    """Bring every document to a result. Returns how many there were."""
    requests = {key: calls.submit(bucket, key) for key in calls.waiting(bucket)}
    number = len(requests)
    while requests:
        time.sleep(_POLL_SECONDS)
        requests = {
            key: request_id for key, request_id in requests.items() if not calls.collect(bucket, key, request_id)
        }
    return number


if __name__ == "__main__":
    print(main(sys.argv[1]))
