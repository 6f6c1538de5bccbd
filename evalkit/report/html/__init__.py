"""The HTML report: pages that open from the disk, without a server and without a network."""
