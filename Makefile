# Everything runs in .venv, which tools/install makes from the lock. Paths are relative, so that the checkout may lie in a folder with spaces.
.PHONY: help install demo test lint statistical bench bench-clearing bench-traders bench-peers app docs lessons lock clean

help:
	@echo "make demo         run the week of February 2026 on bitcoin's books and say where its run folder is"
	@echo "make test         what CI runs: format, lint, types, tests"
	@echo "make lint         format, lint and types only"
	@echo "make statistical  the long statistical checks"
	@echo "make bench        speed of the exchange beside a C++ book"
	@echo "make bench-clearing  the same with margin, positions and liquidations of up to a million accounts"
	@echo "make bench-traders  speed of whole runs: a million accounts with their traders"
	@echo "make bench-peers  speed of the exchange beside other packages, each in an environment of its own"
	@echo "make docs         the documentation as pages to read offline, in site/"
	@echo "make lessons      the lessons as notebooks to work in, in runs/lessons/"
	@echo "make app          the application in the browser"
	@echo "make lock         requirements.lock from pyproject.toml (UPGRADE=--upgrade for newer versions)"
	@echo "make clean        remove environments, caches and build results; runs/ stays"

install:
	@tools/install

demo: install
	@folder=runs/demo-$$(date -u +%Y%m%dT%H%M%SZ); .venv/bin/abm run february-2026-quick --out "$$folder" && .venv/bin/abm report "$$folder"

test: lint
	.venv/bin/python -m pytest -n 2

lint: install
	.venv/bin/python -m ruff check
	.venv/bin/python -m ruff format --check
	.venv/bin/python -m mypy

statistical: install
	.venv/bin/python -m pytest -n 2 -m statistical

bench: install
	@.venv/bin/abm bench

bench-clearing: install
	@.venv/bin/abm bench clearing

bench-traders: install
	@.venv/bin/abm bench traders

bench-peers: install
	@.venv/bin/python -m experiments.bench.peers
	@.venv/bin/abm bench --peers

app: install
	@.venv/bin/abm app

docs: install
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs build --quiet --strict
	@echo "site/index.html"

lessons: install
	@.venv/bin/python -m tools.site.lessons

lock: install
	@.venv/bin/python -m uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.12 --generate-hashes \
		--no-header --no-annotate --quiet $(UPGRADE) --output-file requirements.lock
	@! grep -nE 'https?:|file:' requirements.lock

clean:
	rm -rf .venv .bench-peers dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find abm analysis experiments tests -name __pycache__ -type d -prune -exec rm -rf {} +
