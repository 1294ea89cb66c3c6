"""Any task by Hugging Face's client: `pip install huggingface_hub`."""

import os

from huggingface_hub import InferenceClient

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")  # given, so that the client does not send your token of the Hub


def client_of(task: str) -> InferenceClient:
    """The task's first declared model answers; `/v1/<task>/<model>` names another."""
    return InferenceClient(model=f"{URL}/v1/{task}", token=KEY)


for label in client_of("text-classification").text_classification("The soup was cold and nobody cared."):
    print(f"review: {label.label} {label.score:.2f}")

for name in client_of("token-classification").token_classification("Angela Merkel flew from Hamburg to Paris."):
    print(f"name: {name.word} is {name.entity_group}")

answer = client_of("question-answering").question_answering(
    question="Who invented the telephone?", context="In 1876 Alexander Graham Bell invented the telephone."
)
print(f"answer: {answer.answer}")  # type: ignore[union-attr]  # a list where `top_k` asks for several

shapes = client_of("image-classification").image_classification(".cache/demo/star.png")  # a path, bytes, or a URL
print(f"picture: {shapes[0].label}")

vectors = client_of("feature-extraction").feature_extraction(["A cat sits on the mat.", "Rates were raised."])
print(f"embeddings: {vectors.shape} {vectors.dtype}")

chat = InferenceClient(base_url=f"{URL}/v1", token=KEY)
messages = [{"role": "user", "content": "Tell me a joke!"}]
for part in chat.chat_completion(messages, model="chat", temperature=0, stream=True):
    print(part.choices[0].delta.content or "", end="", flush=True)
print()
