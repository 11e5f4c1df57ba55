DEFAULT = ("unipc", "few")
