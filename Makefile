# make test     the whole suite, some files at a time; PYTHON=python3.9 chooses the interpreter,
#               ARGS='-k git' has one pytest do what it says, SUITE is for `python -m tests`
# make lint     format, rules and types
# make chaos    builds while everything dies, ten minutes or ARGS='--minutes 2 --seed 7'
# make pictures the pictures of the README, anew
# make bench    what minici costs, beside a floor; ARGS='cost rate --quick --json FILE' for a part
# make zipapp   dist/minici.pyz, the package in one file
# make clean    removes what the others made

PYTHON ?= python3
ARGS ?=
SUITE ?=

VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
TEST := .venv/test-$(VERSION)
LINT := .venv/lint-$(VERSION)

PIP = -m pip install --quiet --disable-pip-version-check

.PHONY: test lint chaos pictures bench zipapp clean

# setuptools and wheel: the tests install the package as pip does, without asking the network.
test: $(TEST)/ready
ifeq ($(strip $(ARGS)),)
	$(TEST)/bin/python -m tests $(SUITE)
else
	$(TEST)/bin/python -m pytest $(ARGS)
endif

lint: $(LINT)/ready
	$(LINT)/bin/ruff format --check .
	$(LINT)/bin/ruff check .
	$(LINT)/bin/mypy

chaos:
	$(PYTHON) -m tests.chaos $(ARGS)

pictures: $(TEST)/ready
	MINICI_PICTURES=new $(TEST)/bin/python -m pytest -q tests/ui/test_pictures.py

bench:
	$(PYTHON) -m benchmarks $(ARGS)

$(TEST)/ready: Makefile
	$(PYTHON) -m venv --clear $(TEST)
	$(TEST)/bin/python $(PIP) 'pytest>=7.4' 'setuptools>=61' wheel
	touch $@

$(LINT)/ready: Makefile
	$(PYTHON) -m venv --clear $(LINT)
	$(LINT)/bin/python $(PIP) 'ruff~=0.17.0' 'mypy~=2.4'
	touch $@

# Python's own zipapp command drops the exit status of a main function, so there is a file for it.
zipapp:
	rm -rf dist/zipapp
	mkdir -p dist/zipapp
	cp -R minici dist/zipapp
	find dist/zipapp -name __pycache__ -prune -exec rm -rf {} +
	printf 'import sys\nfrom minici.__main__ import main\nsys.exit(main())\n' >dist/zipapp/__main__.py
	$(PYTHON) -m zipapp --compress --python '/usr/bin/env python3' --output dist/minici.pyz dist/zipapp
	rm -rf dist/zipapp

clean:
	rm -rf .venv dist build minici.egg-info .pytest_cache .mypy_cache .ruff_cache
	find minici tests benchmarks -name __pycache__ -prune -exec rm -rf {} +
