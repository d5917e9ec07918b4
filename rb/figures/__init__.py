"""One function per figure: arrays in, matplotlib Figure out.

Each module here imports matplotlib, which takes a second; import them where they are used.
"""
