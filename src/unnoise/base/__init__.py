"""What every room stands on, each thing once: reading, writing, locks, pictures' files, checks of arguments,
clean text. No torch here.
"""
