"""Reads labelled data of every kind, adds classes to them, and divides them.

Data that cannot be used raise :class:`hetsyn_model.training.datasets.data.DataError`, in every function here.
"""
