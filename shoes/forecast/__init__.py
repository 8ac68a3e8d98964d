"""What tonight will do, before it does it: a few real steps measured in a process of their own, then arithmetic.

probe        runs in a child process and measures
child        starts it, and survives its death
plan         how often a night does what: pure
prediction   measurement × plan: pure
window       when the night starts and has to end: pure
advice       what would fit, where it does not: pure
comparison   precision × micro-batch × checkpointing, side by side
outcome      the forecast against what happened
"""
