# The two commands a newcomer needs: `make quickstart` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KIT ?= ../shared/kit
STANDARD := jpeg@[5..95:10],webp@[5..95:10],avif@[10..90:20],jpeg2000@[25..42.5:2.5],bpg(chroma=444)@[12..47:5],bpg@[22..47:5]
LEARNED := jpeg@[5..95:10],webp@[5..95:10],mbt2018-mean@[1..7:1],mbt2018@[1..7:1],cheng2020-gmm@[1..5:1]
LOCK := requirements/$(shell $(PYTHON) -c "import sys; print('py3%d' % min(sys.version_info.minor, 13))").txt
INSTALLED := $(VENV)/.installed

.PHONY: help install quickstart test lint kit tfc lock clean

help:  ## This list.
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

install: $(INSTALLED)  ## Make .venv and install the locked dependencies.

$(INSTALLED): $(LOCK) pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(0 if sys.version_info >= (3, 11) else 'Python 3.11 or newer is needed, this is ' + sys.version.split()[0] + '; try: make PYTHON=python3.12 $(MAKECMDGOALS)')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

quickstart: $(INSTALLED)  ## Curves of the shipped classifier under JPEG and WebP, and their repair: prints the report's path.
	$(BIN)/robust-compress run --config=configs/quickstart.py --workdir=runs/quickstart

test: $(INSTALLED)  ## The whole test suite.
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)  ## ruff (lint and format) and pyright (the numpy-only modules).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

kit: $(INSTALLED)  ## The README's real-input studies, with the reality kit at KIT=../shared/kit.
	@test -d $(KIT) || { echo "no reality kit at $(KIT); give its folder: make kit KIT=…"; exit 1; }
	$(BIN)/python -m pip install --quiet --requirement requirements/torch.txt
	for study in imagenet_samples camvid coco128x; do \
	  $(BIN)/robust-compress run --config=configs/$${study}_kit.py --config.data_dir=$(KIT) --workdir=runs/$${study}_kit || exit 1; \
	done
	for model in squeezenet mobilenet_v2 nano; do \
	  $(BIN)/robust-compress run --config=configs/imagenette_kit.py:$$model --config.data_dir=$(KIT) --workdir=runs/imagenette_kit_$$model || exit 1; \
	done
	$(BIN)/robust-compress rd "--codecs=$(STANDARD)" --pictures=$(KIT)/kodak --output=runs/kodak_rd
	$(BIN)/robust-compress rd "--codecs=$(LEARNED)" --published=bpg,mbt2018-mean,mbt2018,cheng2020-gmm --pictures=$(KIT)/kodak --output=runs/kodak_learned_rd

tfc: .venv-tfc/.installed  ## TensorFlow Compression in .venv-tfc: the second entropy coder of learned codecs.

.venv-tfc/.installed: requirements/tfc.txt
	@$(PYTHON) -c "import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 13) else 'Its ops need Python 3.10 to 3.12, this is ' + sys.version.split()[0] + '; try: make PYTHON=python3.12 tfc')"
	$(PYTHON) -m venv .venv-tfc
	.venv-tfc/bin/python -m pip install --quiet --requirement $<
	@touch $@

lock:  ## Write this Python's requirements file anew from pyproject.toml.
	$(PYTHON) requirements/lock.py

clean:  ## Remove .venv, .venv-tfc and runs.
	rm -rf $(VENV) .venv-tfc runs
