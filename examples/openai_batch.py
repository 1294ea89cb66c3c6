"""A file of requests, answered beside live ones, by OpenAI's SDK: `pip install openai`."""

import json
import os
import time

from openai import OpenAI

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
REVIEWS = ["The soup was cold and nobody cared.", "Lovely garden, kind owners, we will be back!"]

client = OpenAI(base_url=f"{URL}/v1", api_key=KEY)
endpoint = "/v1/text-classification"  # any task, and OpenAI's own: /v1/chat/completions, /v1/embeddings...
lines = [
    {"custom_id": f"review {number}", "method": "POST", "url": endpoint, "body": {"inputs": review}}
    for number, review in enumerate(REVIEWS)
]
text = "\n".join(json.dumps(line) for line in lines)
file = client.files.create(file=("reviews.jsonl", text.encode()), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id,
    endpoint=endpoint,  # type: ignore[arg-type]  # the SDK names OpenAI's endpoints alone
    completion_window="24h",
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(0.2)
    batch = client.batches.retrieve(batch.id)
print(f"{batch.status}: {batch.request_counts}")
if batch.output_file_id:
    for line in client.files.content(batch.output_file_id).text.splitlines():
        answer = json.loads(line)
        print(answer["custom_id"], answer["response"]["body"][0][0]["label"])
