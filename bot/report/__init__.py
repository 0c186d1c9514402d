"""``ratchet report``: a static site of a skill's experiments, made from the ledger alone.

``gather`` reads the ledger into frozen records (``views``), ``site`` draws them with jinja2 and
``charts``, ``traces`` writes the pages of single model calls. Nothing of it needs a server.

Traces are read once, in the order of the ledger, and never all in memory. Each is handed to

    traces.Writer(folder: Path, *, environment: jinja2.Environment)
        .add(trace: Trace) -> str    the trace's URL, relative to the report's folder
        .close()                     writes what is left (pages, indexes)

which is the only thing that ``gather`` knows of how they are stored.
"""
