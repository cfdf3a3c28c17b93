"""A GLM-4 checkpoint becomes a model folder. Imports `runtime`, never `edge`."""
