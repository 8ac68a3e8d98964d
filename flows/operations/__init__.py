"""Prefect's side of running this for months: servers, deployments, runs that were lost, the order of stopping.

environment  the variables that Prefect's programs share
register     work pool, queues and the deployments of prefect.yaml
lost         runs that nobody works on any more: ended, and taken up again inside their window
stopping     runs are asked to save their state before what runs them stops
up           all of it together: `shoes up`
commands     `shoes up`, `shoes down`, `shoes status`
"""
