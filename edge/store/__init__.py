"""The user's models: one folder that holds every converted model, by the names that people type."""
