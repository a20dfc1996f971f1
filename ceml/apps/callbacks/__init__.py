"""Heartbeats from the frameworks people use: two or three lines in the program, nothing else changes.

Each file here needs the client and its own framework, and imports the framework only when it is imported itself. Of
several ranks on one machine only the first one beats, a callback that is given twice counts once, and whatever goes
wrong here goes wrong silently: no heartbeat is worth a training run. Python 3.6, as the client.
"""
