"""The forecast's measuring process on the emulated device: `python -m tests.emulated.forecast`."""

from shoes.forecast.probe import main
from tests.emulated.mps import emulated_mps

if __name__ == "__main__":
    with emulated_mps():
        main()
