"""The command line of the library; `flows.cli` adds what needs Prefect and is the `shoes` command."""
