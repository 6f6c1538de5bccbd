"""What every room may use: records, errors, registries, digests, templates, statistics. Pure."""
