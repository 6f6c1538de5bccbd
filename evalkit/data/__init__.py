"""Rows: the data root, files, installed packages, the hub."""
