"""OpenAI's routes of sounds: transcriptions, translations and speech."""
