"""OpenAI's API, as its SDKs and vLLM's users speak it."""
