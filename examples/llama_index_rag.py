"""LlamaIndex: an index whose vectors and answers come from one server.

`pip install llama-index-core llama-index-llms-openai-like llama-index-embeddings-openai-like`
"""

import os

from llama_index.core import ChatPromptTemplate, Document, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai_like import OpenAILikeEmbedding
from llama_index.llms.openai_like import OpenAILike

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
NOTES = [
    "Requests that come at the same time are computed together in one batch.",
    "A model is loaded at its first request, and unloaded when memory runs short and nobody uses it.",
    "The queue is bounded: when it is full, the answer is 429 with a Retry-After.",
]
PROMPT = ChatPromptTemplate(
    [
        ChatMessage(role="system", content="Answer from these notes alone:\n{context_str}"),
        ChatMessage(role="user", content="{query_str}"),
    ]
)

embeddings = OpenAILikeEmbedding(model_name="all-MiniLM-L6-v2", api_base=f"{URL}/v1", api_key=KEY)
chat = OpenAILike(
    model="chat",
    api_base=f"{URL}/v1",
    api_key=KEY,
    is_chat_model=True,
    context_window=4096,
    temperature=0,
    max_tokens=60,
)

index = VectorStoreIndex.from_documents([Document(text=note) for note in NOTES], embed_model=embeddings)
engine = index.as_query_engine(llm=chat, similarity_top_k=1, text_qa_template=PROMPT)
for question in ("What is batching?", "When is a model loaded?"):
    answer = engine.query(question)
    print("found:", answer.source_nodes[0].text)
    print("answer:", answer)
