"""CEML: finds the frequencies an application needs while it runs, and keeps its power budget.

            the user's program                          people, scripts                       eyes and metrics
                  |  beats                                   |  wishes                            ^
   UPPER     apps/        platforms/                      api/                  telemetry/        each knows the
             client wire  jetson linux                    socket http           log record        floor below, none
             pipe roster  nvml amd bandwidth              budget_file           ledger report     its neighbour
             callbacks    simulated replay                scenario notify       prometheus otel
                  |            |    ^                         |                   ^
                   publish     |    | apply                   | publish           | subscribe
   MIDDLE           `----->  control/   bus . controller . applier . watch . household . ports
                                  |  asks                      store/   what outlives us: lock, journal, knowledge
   GROUND    plugins/ ------>  domain/   events knobs windows response search sampling guard phase budget manager
             (objectives)      plant/    a board as equations or as a measured table

   parts.py chooses, runtime.py wires, cli.py and commands/ start it; settings.py says what can be set, sources.py
   reads it from flags, environment and file; screens/ (page, top) is the roof: it shows what the socket tells

Things happen upstairs, are announced in the middle, thought about on the ground, and done upstairs again.

This file runs in the user's process too, on Python 3.6: it imports nothing until asked.
"""

__all__ = ["attach"]
__version__ = "0.1.0.dev0"


def attach(app: str, total_work: "float | None" = None, pipe: "str | None" = None):
    """Start sending heartbeats to `ceml serve`; see `ceml.apps.client.attach`, which this is."""
    from ceml.apps.client import attach as attach_client

    return attach_client(app, total_work=total_work, pipe=pipe)
