"""InternLM without its remote code."""
