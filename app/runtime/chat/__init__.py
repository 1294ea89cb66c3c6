"""Chats: how a conversation is put to a model, and what is in its answer beside text: thoughts and calls of tools."""
