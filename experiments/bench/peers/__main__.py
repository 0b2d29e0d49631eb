"""`make bench-peers`: install each peer, or say why not and go on."""

from experiments.bench.peers import PEERS, PeerFailed, install

for peer in PEERS:
    try:
        done = "installed" if install(peer) else "is there"
    except PeerFailed as reason:
        done = f"left out: {reason}"
    print(f"{peer.package} {peer.version} {done}")
