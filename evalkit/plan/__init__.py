"""From options to a checked plan of jobs."""
