"""Learned codecs: a network makes numbers of a picture, an entropy model foretells them, a coder makes bytes of them.

    picture ──analysis──▶ y ──round──▶ symbols ──coder──▶ string ─┐
                          │              ▲ tables, indexes        ├──container──▶ blob
                    hyper └─▶ z ──round──┴─────────coder──▶ string ┘

What a symbol may be is written in integer `tables`, or said by a `mixture` of Gaussians; the `coder` makes strings by
either, and the `container` says what a decoder has to know besides.
"""
