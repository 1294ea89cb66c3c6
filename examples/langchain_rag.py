"""LangChain: an answer from what was found, embeddings and chat by one server.

`pip install langchain-openai langchain-text-splitters`
"""

import os

from langchain_core.documents import Document
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnablePassthrough
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_text_splitters import RecursiveCharacterTextSplitter

URL = os.environ.get("PIPESERVE_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("PIPESERVE_API_KEY", "none")
TEXT = """Requests that come at the same time are computed together in one batch.

A model is loaded at its first request, and unloaded when memory runs short and nobody uses it.

The queue is bounded: when it is full, the answer is 429 with a Retry-After."""
PROMPT = ChatPromptTemplate.from_messages(
    [("system", "Answer from these notes alone:\n{notes}"), ("user", "{question}")]
)

# Without check_embedding_ctx_length=False, LangChain would send the tokens of OpenAI's models: they mean other words to
# yours, and the vectors would be wrong.
embeddings = OpenAIEmbeddings(
    model="all-MiniLM-L6-v2", base_url=f"{URL}/v1", api_key=KEY, check_embedding_ctx_length=False
)
chat = ChatOpenAI(model="chat", base_url=f"{URL}/v1", api_key=KEY, temperature=0, max_completion_tokens=60)

notes = RecursiveCharacterTextSplitter(chunk_size=120, chunk_overlap=0).create_documents([TEXT])
retriever = InMemoryVectorStore.from_documents(notes, embeddings).as_retriever(search_kwargs={"k": 1})


def as_text(found: list[Document]) -> str:
    return "\n".join(one.page_content for one in found)


chain = {"notes": retriever | as_text, "question": RunnablePassthrough()} | PROMPT | chat | StrOutputParser()
for question in ("What is batching?", "When is a model loaded?"):
    print("found:", as_text(retriever.invoke(question)))
    print("answer:", chain.invoke(question))
