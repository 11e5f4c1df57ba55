"""What callers catch, under its public name: `unnoise.errors.BadInput`."""

from unnoise.base.errors import BadInput, unknown

__all__ = ["BadInput", "unknown"]
