"""Is this machine ready to train? `checks` holds one function per check, `verify` runs them."""

from shoes.environment.record import keep, kept
from shoes.environment.verify import is_waiting, require_ready, verify

__all__ = ["is_waiting", "keep", "kept", "require_ready", "verify"]
