"""Faults that are put into the code on purpose, to see which test finds each: `benchmarks/mutations.py`.

catalogue.py   the mutations: those chosen by hand, and those drawn from generated ones
generated.py   every mutation that a few rules make of the code
reach.py       which tests run which line, and how long they take
contexts.py    pytest's side of that
trial.py       a mutation in the code, and the tests that may find it
"""
