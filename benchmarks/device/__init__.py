"""The device kit: what this GPU does with the program, in one table, in at most eight minutes.

    make device-check                        or, with any Python that has PyTorch 2.8 or later:
    python benchmarks/device/bootstrap.py    makes an environment beside that PyTorch, and runs
    python -m benchmarks.device [--smoke] [--device auto] [--minutes 8] [--parts a,b] [--out FILE] [--work DIR]

bootstrap    the environment: the few packages of requirements.txt beside the PyTorch that is there
kit          the parts in their order, each within its time, in a process of its own
worker       that process
place        what the parts are given: device, folders, time that is left
ground       models, photos and jobs to measure on, without a store and without a network
parts/       one file a part
flops, peaks what a step needs, and what devices can do: pure
rows, table  what is found, and how people read it
"""
