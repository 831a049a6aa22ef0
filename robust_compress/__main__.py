"""`python -m robust_compress` is `robust-compress`."""

from robust_compress.main import main

main()
