"""The IRs of a model folder: the names of their files, without .xml and .bin.

A text model is one IR. A vision model has the names by which OpenVINO GenAI opens it, and a tower that we run.
"""

DECODER = "openvino_model"
LANGUAGE = "openvino_language_model"  # the decoder over embeddings
TABLE = "openvino_text_embeddings_model"
TOWER = "openvino_image_model"
STUB = "openvino_vision_embeddings_model"  # a tower that GenAI requires, and never runs
