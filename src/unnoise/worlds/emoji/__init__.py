"""Scenes of emoji: what is drawn, what every thing is called, and how it is said."""
