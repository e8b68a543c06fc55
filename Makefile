# make try           what is found in two example videos, as a table and as pages; installs the runtime alone, 100 MB
# make test          make a virtual environment, install, run the tests; TORCH_INDEX=URL takes PyTorch from there
# make check         lint, types, layering, dead code
# make browser       install Chromium for the tests of pages, where that is possible
# make screenshots   the pictures of pages in docs/pictures/; needs Chromium, and for most of them ../shared/reference
# make docs          the documentation as a site, with the reference of all commands and of the Python interface
# make drawing       who imports whom, room by room; writes docs/architecture.md
# make demo          drawn videos, training, export, detection and evaluation, in a few minutes; SEED=1 draws others
# make example       the bundle and the videos in examples/, from the demo of seed 0
# make gpu           what can only be measured on a GPU; DEVICE=cpu lets the CPU stand in, GPU_OPTIONS=--help tells more
# make arm           self-tests and detections on emulated Arm processors, and on x86 without AVX; fetches what it needs
# make fuzz          at least 200,000 broken files for every reader, which takes an hour or two
# make lowest        the tests with the oldest versions that setup.cfg allows
# make newest        the tests with the newest versions
# make pythons       the tests with Python 3.11, 3.12 and 3.13, which must be installed
# make reproducible  build the wheel twice, in two places, and compare the files
# make audit         known vulnerabilities of everything that the tests run with; asks PyPI's JSON interface
# make sbom          a bill of materials of what an edge box gets
# make ray           the tests of Ray Data, in an environment of its own; Ray and what it needs take 800 MB
# make core          install the runtime alone, as on an edge box, and start the commands
# make               this help

PYTHON ?= python3
VENV ?= .venv
CONSTRAINTS ?= constraints.txt
# The package index of another build of PyTorch, such as the one without CUDA: docs/installing.md.
TORCH_INDEX ?=
EXTRAS ?= dev,docs
BIN := $(VENV)/bin
PACKAGES := stale_runtime stale_model stale_export stale_bench
FOLDERS := runtime stale_model export bench

.PHONY: help try example test check lint types layering deadcode browser screenshots docs drawing format core ray fuzz lowest newest pythons reproducible audit sbom demo gpu arm clean
help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --no-deps --constraint $(CONSTRAINTS) \
	  --index-url $(TORCH_INDEX) torch)
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[$(EXTRAS)]'
	touch $@

# What an edge box gets: no PyTorch. Each command is printed as it runs, and does the same when it is typed.
TRY := build/try
EXAMPLES := examples/washing_a_car.mp4 examples/painting_a_dog.mp4
WITH_TRUTH := --bundle examples/bundle --prompts examples/classes.txt --ground-truth examples/truth.json
$(TRY)/installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(TRY)
	$(TRY)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[video]'
	touch $@

# A browser is opened in the background, and only for somebody who sits at a screen.
PAGES := $(TRY)/pages/index.html
try: $(TRY)/installed
	$(TRY)/bin/stale-run $(EXAMPLES) $(WITH_TRUTH)
	$(TRY)/bin/stale-run $(EXAMPLES) $(WITH_TRUTH) --format html -o $(dir $(PAGES))
	@echo 'Pages of the videos: file://$(CURDIR)/$(PAGES)'
	@echo 'To go on with your own video (see README.md): . $(TRY)/bin/activate'
	@if test -z "$$CI" && test -t 1 && test -n "$$DISPLAY$$WAYLAND_DISPLAY$$(uname | grep Darwin)"; then \
	  $(TRY)/bin/python -m webbrowser 'file://$(CURDIR)/$(PAGES)' </dev/null >/dev/null 2>&1 & fi

# The tests start hundreds of commands, so compiled modules are kept even where a container's settings forbid it.
test: $(VENV)/installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

check: lint types layering deadcode

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/installed build/types
	$(BIN)/mypy $(addprefix -p ,$(PACKAGES) docs.site tests)
	$(BIN)/mypy examples

# Links that give the folders the names that they are imported by, for mypy.
build/types: Makefile
	mkdir -p $@
	ln -sfn ../../runtime $@/stale_runtime
	ln -sfn ../../stale_model $@/stale_model
	ln -sfn ../../export $@/stale_export
	ln -sfn ../../bench $@/stale_bench
	touch $@

layering: $(VENV)/installed
	$(BIN)/lint-imports --config setup.cfg

# First the packages alone: code that only a test uses is dead. Then the tests too, for code of theirs that is not used.
deadcode: $(VENV)/installed
	$(BIN)/vulture
	$(BIN)/vulture $(FOLDERS) docs/site tests

docs: $(VENV)/installed
	$(BIN)/python -m docs.site.make_site

drawing: $(VENV)/installed
	$(BIN)/python -m tests.import_graph

format: $(VENV)/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# Debian's package, as root or with a sudo that does not ask. If that is not possible, the tests of pages are skipped.
CHROMIUM := chromium chromium-browser google-chrome google-chrome-stable
browser:
	@for name in $(CHROMIUM); do if command -v $$name; then exit 0; fi; done; \
	if test "$$(id -u)" = 0; then as_root=; else as_root='sudo -n'; fi; \
	if command -v apt-get >/dev/null && $$as_root apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive $$as_root apt-get install -qq -y --no-install-recommends chromium >/dev/null; \
	then command -v chromium; \
	else echo 'Chromium is missing and cannot be installed here: the tests of pages in a browser will be skipped.'; fi

screenshots: $(VENV)/installed
	$(BIN)/python -m tests.speed_plot
	$(BIN)/python -m tests.page.screenshots

# Ray is large and pins nothing that we need, so it has an environment of its own. It gives warnings about itself.
RAY := build/ray
$(RAY)/installed: setup.cfg pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) --editable '.[ray,video]' pytest hypothesis
	touch $@

ray: $(RAY)/installed
	$(RAY)/bin/python -m pytest tests/ray -W ignore

# Install the runtime alone, as an edge box does: no extras, no torch.
core:
	rm -rf build/core build/lib
	$(PYTHON) -m venv build/core
	build/core/bin/python -m pip install --quiet --constraint constraints.txt .
	build/core/bin/stale-run --help >/dev/null
	build/core/bin/stale-export --help >/dev/null
	build/core/bin/stale-bench --help >/dev/null
	! build/core/bin/python -c 'import torch' 2>/dev/null
	build/core/bin/stale-train --help >/dev/null
	build/core/bin/stale-train --annotations x --features x --split closed 2>&1 | \
	  grep -q "needs torch, which is not installed; install it with: .* -m pip install 'stale-edge\[train\]'"

FUZZ_INPUTS ?= 200000
fuzz: $(VENV)/installed
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[fuzz]'
	STALE_FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest tests/fuzz
	$(BIN)/python -m tests.fuzz.run all --inputs $(FUZZ_INPUTS) --jobs 2

# Each command is printed as it runs, and does the same when it is typed.
DEMO := build/demo
SEED ?= 0
demo: $(VENV)/installed
	rm -rf $(DEMO)
	$(BIN)/python -m stale_model.demo $(DEMO) --seed $(SEED)
	$(BIN)/stale-features $(DEMO)/videos/training -o $(DEMO)/training_features --vision $(DEMO)/vision --workers 2
	$(BIN)/stale-features $(DEMO)/videos/validation -o $(DEMO)/validation_features --vision $(DEMO)/vision --workers 2
	$(BIN)/stale-train --annotations $(DEMO)/annotations.json --features $(DEMO)/training_features \
	  --seen $(DEMO)/splits/seen.txt --unseen $(DEMO)/splits/unseen.txt --clip $(DEMO)/clip --freeze-text \
	  --epochs 30 --batch-size 8 --learning-rate 4e-4 --seed $(SEED) -o $(DEMO)/training
	$(BIN)/stale-export --ckpt $(DEMO)/training/best.pth --vision $(DEMO)/vision --classes $(DEMO)/splits/all.txt -o $(DEMO)/bundle \
	  --calibration $(DEMO)/training_features --validate $(DEMO)/annotations.json \
	  --validation-features $(DEMO)/validation_features
	$(BIN)/stale-run $(DEMO)/videos/validation/validation_0001.mp4 --prompts $(DEMO)/splits/all.txt \
	  --bundle $(DEMO)/bundle
	$(BIN)/stale-run $(DEMO)/videos/validation --prompts $(DEMO)/splits/all.txt --bundle $(DEMO)/bundle \
	  --format json -o $(DEMO)/detections.json
	$(BIN)/stale-eval $(DEMO)/detections.json --ground-truth $(DEMO)/annotations.json --subset validation \
	  --classes $(DEMO)/splits/seen.txt
	$(BIN)/stale-eval $(DEMO)/detections.json --ground-truth $(DEMO)/annotations.json --subset validation \
	  --classes $(DEMO)/splits/unseen.txt
	$(BIN)/stale-run $(DEMO)/videos/validation --prompts $(DEMO)/splits/all.txt --bundle $(DEMO)/bundle \
	  --format html --ground-truth $(DEMO)/annotations.json --subset validation -o $(DEMO)/pages
	$(BIN)/python -m stale_model.demo.demo_summary $(DEMO) --page $(DEMO)/pages/index.html

# Whatever is measured of the float graphs is measured here too, before they are left out.
example: SEED := 0
example: demo
	$(BIN)/stale-export --ckpt $(DEMO)/training/best.pth --vision $(DEMO)/vision --classes $(DEMO)/splits/all.txt \
	  -o examples/bundle --graphs ort-int8 vision-int8 --calibration $(DEMO)/training_features \
	  --validate $(DEMO)/annotations.json --validation-features $(DEMO)/validation_features \
	  --validate-videos $(DEMO)/videos/validation
	$(BIN)/python -m stale_model.demo.example_videos examples
	$(BIN)/stale-run $(EXAMPLES) --bundle examples/bundle --prompts examples/classes.txt --format json \
	  -o examples/detections.json

# Installs nothing: without $(VENV) it runs with the Python, the PyTorch and the other libraries that are there.
DEVICE ?= cuda
GPU_OPTIONS ?=
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
gpu: build/types
	PYTHONPATH=$(CURDIR)/build/types $(GPU_PYTHON) -m tests.gpu.run --device $(DEVICE) $(GPU_OPTIONS)

# Fetches qemu, an arm64 Python and wheels into build/arm with apt and pip, and installs nothing.
ARM_OPTIONS ?=
arm: $(VENV)/installed build/types
	mkdir -p build/arm
	$(BIN)/stale-features examples --overwrite -o build/arm/features --bundle examples/bundle
	$(BIN)/python -m tests.arm.run $(ARM_OPTIONS)

# These download several gigabytes of PyTorch unless TORCH_INDEX has a CPU build of that version. The site needs a newer
# click than we do, so `make lowest` skips its tests.
lowest:
	$(MAKE) test VENV=build/lowest CONSTRAINTS=constraints-lowest.txt EXTRAS=dev

newest:
	$(MAKE) test VENV=build/newest CONSTRAINTS=/dev/null

pythons:
	for version in 3.11 3.12 3.13; do \
	  $(MAKE) test PYTHON=python$$version VENV=build/python$$version || exit 1; \
	done

# Two wheels of one commit, built in two places, must be equal byte for byte.
WHEEL_TIME := $(shell git log -1 --format=%ct 2>/dev/null || echo 315532800)
reproducible: $(VENV)/installed
	rm -rf build/one build/two build/wheels
	for copy in one two; do \
	  mkdir -p build/$$copy && git archive HEAD | tar x -C build/$$copy && \
	  SOURCE_DATE_EPOCH=$(WHEEL_TIME) $(BIN)/python -m pip wheel --quiet --no-deps build/$$copy \
	    --wheel-dir build/wheels/$$copy || exit 1; \
	done
	sha256sum build/wheels/*/*.whl
	cmp build/wheels/one/*.whl build/wheels/two/*.whl

# The tools for `audit` and `sbom` have a virtual environment of their own, so that they are not audited themselves.
build/tools/installed:
	$(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install --quiet pip-audit cyclonedx-bom
	touch $@

audit: build/tools/installed $(VENV)/installed
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+.*//' > build/audited.txt
	build/tools/bin/pip-audit --strict --no-deps --disable-pip --requirement build/audited.txt

sbom: build/tools/installed core
	build/tools/bin/cyclonedx-py environment build/core --output-file build/sbom.json

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache *.egg-info
