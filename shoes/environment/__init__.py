"""Is this machine ready to train? `checks` holds one function per check, `verify` runs them."""

from shoes.environment.verify import verify

__all__ = ["verify"]
