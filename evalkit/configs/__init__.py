"""YAML: names, inheritance, schema, records."""
