"""Worlds with exact truth: what is in a picture is known, because it was put there."""
