# make env   create .venv and install the package with its development extras (once)
# make demo  train, test and segment a video on the embedded data set; results in outputs/demo
# make test  run the quick tests, which a change has to pass
# make test-all  run these, then the slow ones: programs in processes of their own, trainings
# make test-onedl  run the tests of training, resuming, loading, several processes, and the whole way
#            from a config to figures on onedl-mmengine, too
# make lint  check the style, and the types of what glus_mm.apis exports
# make docs  build the documentation into docs/_build/html; a warning is an error
# make image build the Docker image for a CPU (IMAGE_DEVICE=cuda for the other)
# make wheel build the wheel, install it elsewhere, and use it from an empty folder
# make ablation  train and test the rows of the ablation study, two runs at a time; hours on two
#            cores, and it goes on where it was stopped (ABLATION=--reduced is a short version)
# make clean remove .venv, caches and outputs

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

.PHONY: env demo test test-all test-onedl ablation lint docs wheel image clean
.DELETE_ON_ERROR:

env: $(STAMP)

# sam2 is published as source only, and an isolated build of it would download torch a second
# time. It is pure Python without its optional CUDA kernel, so it is built alone, before torch.
$(STAMP): setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "glus_mm needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V 2>&1)."; \
		     echo "Name another one: make env PYTHON=python3.11"; exit 1; }
	@echo "[1/4] creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --upgrade setuptools wheel
	@echo "[2/4] building sam2"
	@SAM2_BUILD_CUDA=0 $(PIP) install --no-deps --no-build-isolation sam2
	@echo "[3/4] installing glus_mm and what it needs (torch is large: some minutes)"
	@if $(BIN)/python -c 'import mmcv' 2>/dev/null; then extras=dev; else extras=dev,lite; fi; \
		$(PIP) install --editable ".[$$extras]"
	@echo "[4/4] checking the installation"
	@$(BIN)/python -c 'import cv2' 2>/dev/null \
		|| { echo "      opencv-python lacks a system library here; using opencv-python-headless"; \
		     $(PIP) install --force-reinstall --no-deps opencv-python-headless; }
	@$(BIN)/python -c 'import cv2, torch, torchvision, sam2, glus_mm; \
		print("      glus_mm", glus_mm.__version__, "with torch", torch.__version__)'
	@touch $@

demo: env
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash demo/quick_start.sh

# Two workers with one thread each: more threads only wait for one another on two cores. A file goes
# to one of them, so that what its tests share (trainings, a server) is made once; in the order of
# tests/conftest.py, not by the number of tests.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -q -n 2 --dist loadfile --no-loadscope-reorder

test: env
	$(PYTEST) -m "not slow"

test-all: test
	$(PYTEST) -m slow

# A second environment on top of the first: only the engine and its mmcv are other ones. Its tests
# also compare the two engines with one another.
ONEDL := .venv-onedl
$(ONEDL)/.installed: $(STAMP)
	$(BIN)/python -m venv $(ONEDL)
	$(ONEDL)/bin/python -m pip -q --disable-pip-version-check install --no-deps \
		'onedl-mmengine>=0.10.12' 'onedl-mmcv>=2.3.6'
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> "$$($(ONEDL)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/first.pth"
	@touch $@

test-onedl: $(ONEDL)/.installed
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR) OTHER_ENGINE=$(CURDIR)/$(BIN)/python \
		$(ONEDL)/bin/python -m pytest -q -n 2 --dist loadfile \
		tests/test_engine/test_other_engine.py tests/test_engine/test_resume_sampler_hook.py \
		tests/test_engine/test_checkpoint_loaders.py tests/test_engine/test_finite_loss_hook.py \
		tests/test_end_to_end.py

ablation: env
	OMP_NUM_THREADS=1 $(BIN)/python projects/ablation_study/ablation.py $(ABLATION)

lint: env
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

# Read anew each time (-E): a page that was read before would keep its warnings to itself.
docs: env
	$(BIN)/python dev/make_leaderboard.py
	DS_ACCELERATOR=cpu $(BIN)/python -m sphinx -E -W --keep-going -q -b html docs docs/_build/html

wheel: env
	$(BIN)/python dev/check_wheel.py

IMAGE_DEVICE ?= cpu
image:
	docker build --tag glus-mm:$(IMAGE_DEVICE) --build-arg DEVICE=$(IMAGE_DEVICE) .

clean:
	rm -rf $(VENV) $(ONEDL) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache docs/_build \
		outputs data/moving_shapes_demo
