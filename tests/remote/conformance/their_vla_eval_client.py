"""vla_eval.connection asks a server: ADDRESS FRAMES.npz -> actions of two episodes, hello, spec warnings, an error."""

import json
import sys

import anyio
import numpy as np
from vla_eval import specs
from vla_eval.connection import Connection
from vla_eval.protocol.numpy_codec import set_image_format

address, file = sys.argv[1:]
told = np.load(file)


async def main():
    actions = []
    async with Connection(address) as connection:
        for form in ("png", "raw", "jpeg"):
            set_image_format(form)
            await connection.start_episode({"task": {"name": "task"}})
            for frame in told["frames"]:
                reply = await connection.act({"images": {"front": frame}, "task_description": str(told["words"])})
                actions.append(np.asarray(reply["actions"]).tolist())
            await connection.end_episode({"metrics": {"success": False}})
        try:
            await connection.act({"task_description": "no picture"})
            error = ""
        except RuntimeError as refused:
            error = str(refused)
        spec = {name: specs.DimSpec.from_dict(raw) for name, raw in connection.server_info["action_spec"].items()}
        seen = {name: specs.DimSpec.from_dict(raw) for name, raw in connection.server_info["observation_spec"].items()}
        bench = {"position": specs.POSITION_DELTA, "rotation": specs.ROTATION_AA, "gripper": specs.GRIPPER_CLOSE_POS}
        given = {"image": specs.IMAGE_RGB, "language": specs.LANGUAGE}
        warnings = specs.check_specs(spec, bench, seen, given)
        return [actions, connection.server_info, warnings, error]


print(json.dumps(anyio.run(main)))
