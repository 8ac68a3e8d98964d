"""What a long night may meet, each a command: does the training end as it would have without?

    python -m benchmarks.faults ROW | all [--work DIR] [--list]

verdict.py     what is compared: steps, metrics, adapter, states
world.py       a folder with data, programs in it, and what they have written so far
processes.py   kill -9 and SIGSTOP, without and with `shoes up`
stores.py      MLflow's SQLite file locked or read-only
disks.py       full disks, as small file systems in a mount namespace
clocks.py      a clock that jumps, and the nights of daylight saving time
contention.py  a port that is taken, two schedulers on one device
"""
