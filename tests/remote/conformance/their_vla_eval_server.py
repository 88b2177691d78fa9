"""A server built on vla_eval's PredictModelServer: prints its port, answers in chunks of two, sent singly."""

import sys
import time

import numpy as np
from vla_eval.api import serve_background
from vla_eval.model_servers.predict import PredictModelServer
from vla_eval.specs import GRIPPER_CLOSE_POS, IMAGE_RGB, LANGUAGE, POSITION_DELTA, ROTATION_AA


class Pixels(PredictModelServer):
    def predict(self, obs, ctx):
        image = next(iter(obs["images"].values()))
        row = 2 * image[0, :2].ravel() / 255 - 1
        action = np.array([*(0.05 * row[:3]), *(0.25 * row[3:]), -len(obs["task_description"]) / 100], np.float32)
        if "fail" in obs["task_description"]:
            raise KeyError("state")
        return {"actions": np.stack([action, -action])}

    def get_action_spec(self):
        return {"position": POSITION_DELTA, "rotation": ROTATION_AA, "gripper": GRIPPER_CLOSE_POS}

    def get_observation_spec(self):
        return {"image": IMAGE_RGB, "language": LANGUAGE}


with serve_background(Pixels(chunk_size=2 if sys.argv[1] == "singly" else None)) as handle:
    print(handle.port, flush=True)
    while True:
        time.sleep(1)
