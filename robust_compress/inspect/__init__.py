"""Looking at codecs and at data without a model: `robust-compress rd`, `audit` and `codec`."""
