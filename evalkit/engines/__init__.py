"""Engines answer requests; every engine has the same face (`base.Engine`)."""
