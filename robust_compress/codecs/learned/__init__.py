"""Learned codecs: a network makes numbers of a picture, an entropy model foretells them, a coder makes bytes of them.

picture ──analysis──▶ y ──round──▶ symbols ──coder──▶ string ─┐
                      │              ▲ tables, indexes        ├──container──▶ blob
                hyper └─▶ z ──round──┴─────────coder──▶ string ┘

tables.py     integer tables of what a symbol may be, the same on every device
coder.py      symbols to bytes and back by such tables
container.py  what a blob says of itself
"""
