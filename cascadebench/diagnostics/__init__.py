"""What training and the one prediction pass saw, as small tables: why a detector has the AP that it has.

Adapters fill the records of :mod:`cascadebench.diagnostics.observations`; everything else is free of any framework.
"""
