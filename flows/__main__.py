"""`python -m flows` is the `shoes` command: `accelerate launch -m flows train` starts it in several processes."""

from flows.cli import main

main()
