"""Join stdin and stdout to an adapter that waits at a local port: `python relay.py PORT`.

The suite starts a process for each trace. This one starts in no time, where the engine takes a second to load.
"""

import os
import socket
import sys
import threading


def relay(port: int) -> None:
    """Pass bytes both ways until the adapter has answered to the end."""
    with socket.create_connection(("127.0.0.1", port)) as adapter:
        adapter.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def ask() -> None:
            while asked := os.read(0, 65_536):
                adapter.sendall(asked)
            adapter.shutdown(socket.SHUT_WR)

        threading.Thread(target=ask, daemon=True).start()
        while answer := adapter.recv(65_536):
            while answer:
                answer = answer[os.write(1, answer) :]


if __name__ == "__main__":
    relay(int(sys.argv[1]))
