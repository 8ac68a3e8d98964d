"""Checkpoints in a single file, the form in which most models are passed on: told from their header, converted once.

header.py       names, shapes and types of a file's tensors, and its metadata; what is no safetensors file
kinds.py        what else a file may be, and why it can't be trained
layout.py       which published model it is built like: the configs that the file leaves out
prediction.py   whether it predicts ε or v: said by the file, by a YAML beside it, or measured
parts.py        its tensors under the names of diffusers, by diffusers' own converter
conversion.py   the folder in diffusers' format that is made of it
place.py        where that folder is kept, and finding it again
"""
