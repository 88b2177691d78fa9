"""``vla_eval run`` with our world as benchmark: ADDRESS PARAMS -> its results."""

import json
import sys

from vla_eval.api import run

if __name__ == "__main__":
    address, params, folder = sys.argv[1:]
    entry = {
        "benchmark": "rslwm.envs.vla_eval_benchmark:Tabletop",
        "episodes_per_task": 2,
        "params": json.loads(params),
    }
    results = run({"benchmarks": [entry]}, server_url=address, docker=False, no_save=True, output_dir=folder)
    print(json.dumps(results, default=str))
