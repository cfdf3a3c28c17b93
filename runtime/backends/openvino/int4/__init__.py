"""Our own product of int4 matrices on CPUs: it reads the weights as they lie in the mapped file of a model folder.
OpenVINO's own copies them into another layout first."""
