"""Everything M13 changes on a machine, each change written down first and put back exactly.

The TUN device, its addresses and its queueing discipline vanish with the process; every other
change goes through `journal.Journal`. All modules act in the network namespace of the process.
"""
