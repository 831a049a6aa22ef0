"""Weights to start training from, in place of random ones: principal components, and what a simpler network learned.

    mbt2018-mean     strided.py     four strided convolutions that hold principal components (components.py)
    cheng2020-gmm    residual.py    residual blocks that hold them, and a mixture about foretold means
    mbt2018          context.py     a trained mbt2018-mean, whose features pass the new layers as they are

A random autoencoder of four stages spends thousands of steps on the mean colour of blocks before it finds any detail.
This one begins as a linear transform that keeps the most of the variance which its widths allow; g_s begins as its
inverse. The gain of a level is then a step of rounding that fits the λ of that level.

`python -m robust_compress.starting` writes such a file of pictures; `start=FILE` takes what fits from it.
"""
