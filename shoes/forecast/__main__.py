"""`python -m shoes.forecast`: the measuring process, which the forecast starts."""

from shoes.forecast.probe import main

main()
