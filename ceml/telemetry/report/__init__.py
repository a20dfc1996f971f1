"""Records to look at: read once in bounded memory (`digest`), drawn (`timeline`, `space`, `balance`), bound (`page`).

Drawn with matplotlib (extra `report`), which is imported late: it writes SVG and PNG with the same metrics, needs no
browser and no network, and is what papers are set with. A library of the browser would have to be inlined (megabytes)
and prints badly.
"""
