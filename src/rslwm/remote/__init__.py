"""Policies at an address: wire protocols, the mapping of their conventions to ours, clients and servers."""
