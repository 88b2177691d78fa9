// One websocket: JSON out, and back a head with what it says follows (see messages.py).

export class Wire {
  constructor(url, token, heard, lost) {
    this.waiting = new Map();
    this.number = 0;
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.socket.send(JSON.stringify({ token }));
    this.socket.onclose = (event) => lost(event.code);
    this.socket.onmessage = (event) => {
      const answer = unpack(event.data);
      const waiting = this.waiting.get(answer.id);
      this.waiting.delete(answer.id);
      if (waiting) waiting(answer);
      else heard(answer);
    };
  }

  /** The answer to a question. */
  ask(question) {
    const id = ++this.number;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      this.socket.send(JSON.stringify({ ...question, id }));
    });
  }
}

function unpack(data) {
  const length = new DataView(data).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  let at = 4 + length;
  head.parts = head.bytes.map((size) => {
    const part = new Uint8Array(data, at, size);
    at += size;
    return part;
  });
  return head;
}
