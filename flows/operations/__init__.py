"""Prefect's side of running this for months: servers, deployments, runs that were lost, the order of stopping.

environment  the variables that Prefect's programs share
database     Prefect's SQLite file, made as a whole
place        where the Prefect server is that is in use
register     work pool, queues and the deployments of prefect.yaml
runs         the project's flow runs, as the server has them
nights       the machine's schedule in Prefect, and runs that were missed
automations  what the server does by itself: ends silent runs, tells people how nights ended
outages      what a server that is away makes the client raise
lost         runs that nobody works on any more: ended, and taken up again inside their window
stopping     runs are asked to save their state before what runs them stops
up           all of it together: `shoes up`
commands     `shoes up`, `shoes down`, `shoes status`
"""
