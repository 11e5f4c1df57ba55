"""Which unnoise this is, and what it takes where no model is named."""

VERSION = "0.1.0"
DEFAULT_MODEL = "emoji"
