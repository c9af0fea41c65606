"""Governed admission: what becomes part of the roster, on whose authority (docs/ADMISSION.md).

One module a phase: resolve (0), authority (1), consume (2), write (3), verify (4), audit (5),
activate (6). They know envelope, codes and schema, never each other; register and lifecycle compose
them.
"""
