"""What a judge reads beside the captions, where these are all equal and none is there to be confused with."""

from collections.abc import Collection

OTHER_THINGS = ("a page of printed text", "a photo of the open sea", "a street at night", "a bowl of soup", "a dog")
"""Captions of what no product photo shows."""


def captions_to_read(captions: Collection[str]) -> list[str]:
    """All that a judge with words has to read for the test photos' captions."""
    different = set(captions)
    return sorted(different | (set(OTHER_THINGS) if len(different) == 1 else set()))
