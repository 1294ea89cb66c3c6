"""A text spoken, and heard again, by OpenAI's SDK: `pip install openai`.

The demo has no models for it; two entries of models.yaml that do:

    - {id: speaker, task: text-to-audio, model: facebook/mms-tts-eng}
    - {id: listener, task: automatic-speech-recognition, model: openai/whisper-tiny.en}
"""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from openai import OpenAI

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
with TemporaryDirectory() as folder:
    file = Path(folder) / "hello.wav"
    with client.audio.speech.with_streaming_response.create(
        model="speaker", voice="alloy", input="Hello from the server.", response_format="wav"
    ) as speech:
        speech.stream_to_file(file)
    print(f"spoken: {file.stat().st_size} bytes")

    heard = client.audio.transcriptions.create(model="listener", file=file)
    print(f"heard: {heard.text}")
    timed = client.audio.transcriptions.create(
        model="listener", file=file, response_format="verbose_json", timestamp_granularities=["segment"]
    )
    for segment in timed.segments or []:
        print(f"{segment.start:.1f} to {segment.end:.1f} s: {segment.text}")
