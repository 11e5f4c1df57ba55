"""What runs a network: which device and number type, in which form, with its own copy of the weights."""
