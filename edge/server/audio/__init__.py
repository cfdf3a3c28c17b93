"""The endpoints of OpenAI's audio API: transcriptions, translations and speech."""
