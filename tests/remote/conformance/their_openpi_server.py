"""A server as openpi's websocket_policy_server, with openpi_client's own encoding: prints its port, answers with the
first row's pixels and the prompt's length, H = 2 a request."""

import time
import traceback

import numpy as np
from openpi_client import msgpack_numpy
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

packer = msgpack_numpy.Packer()


def infer(obs):
    image = obs["observation/image"]
    assert image.dtype == np.uint8
    assert image.flags.writeable is False
    row = 2 * image[0, :2].ravel() / 255 - 1
    action = np.array([*(0.05 * row[:3]), *(0.25 * row[3:]), len(obs["prompt"]) / 100], np.float32)
    return {
        "state": np.zeros(8),
        "actions": np.stack([action, -action]),
        "policy_timing": {"infer_ms": np.float64(1.5)},
    }


def handler(websocket):
    websocket.send(packer.pack({"reset_pose": [0.0, -1.5, 1.5, 0.0, 0.0, 0.0]}))
    while True:
        try:
            started = time.monotonic()
            action = infer(msgpack_numpy.unpackb(websocket.recv()))
            action["server_timing"] = {"infer_ms": (time.monotonic() - started) * 1000}
            websocket.send(packer.pack(action))
        except ConnectionClosed:
            return
        except Exception:
            websocket.send(traceback.format_exc())
            websocket.close(1011, "Internal server error. Traceback included in previous frame.")
            raise


with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
    print(server.socket.getsockname()[1], flush=True)
    server.serve_forever()
