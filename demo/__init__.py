"""The scripts that make the demo's models and data set from a downloaded catalogue; no part of the product.

`python -m demo.make --catalogue DIR` runs them all. Nothing in `shoes` imports this package.
"""
