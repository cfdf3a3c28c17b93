"""Evaluation of model folders: how much quality a conversion costs, as figures and a report."""
