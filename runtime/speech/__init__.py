"""Speech recognition and text-to-speech: Whisper and SpeechT5, each in a process of its own."""
