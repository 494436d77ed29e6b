"""The command line, ``tcfs``: presentation of what the engine answers, and nothing else.

Importing any module here is cheap; the engine, pydantic and rich are imported by the commands that
need them, when they run.
"""
