"""openpi_client asks a server: ADDRESS FRAMES.npz -> actions, metadata, what its own resize makes of a picture."""

import json
import sys

import numpy as np
from openpi_client.image_tools import resize_with_pad
from openpi_client.websocket_client_policy import WebsocketClientPolicy

address, file = sys.argv[1:]
told = np.load(file)
client = WebsocketClientPolicy(address)
actions = []
for frame in told["frames"]:
    reply = client.infer({"observation/image": frame, "observation/state": np.zeros(8), "prompt": str(told["words"])})
    actions.append(reply["actions"].tolist())
try:
    client.infer({"observation/image": told["frames"][0]})
    error = ""
except RuntimeError as refused:
    error = str(refused)
padded = resize_with_pad(told["odd"], 24, 20)
print(json.dumps([actions, client.get_server_metadata(), error, padded.tolist()]))
