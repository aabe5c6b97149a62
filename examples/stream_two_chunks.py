"""Stream a recording in two numbered chunks: ``python examples/stream_two_chunks.py [FILE] [URL]``."""

import sys
import wave

import numpy as np

from hetsyn_client import StreamingClient

path = sys.argv[1] if len(sys.argv) > 1 else "docs/recordings/seven.wav"
url = sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000"

with wave.open(path) as file:
    rate_hz = file.getframerate()
    samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
half = len(samples) // 2

with StreamingClient(url) as client, client.session(model="speech-digits") as session:
    first = session.send(samples[:half], rate_hz)
    last = session.send(samples[half:], rate_hz, end=True)

print(f"after chunk {first['seq']}: {first['label']}")
print(f"after chunk {last['seq']}: {last['label']} ({max(last['probabilities'] or [0.0]):.0%})")
