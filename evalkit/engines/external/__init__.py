"""Engines of other packages: vLLM and LMDeploy."""
