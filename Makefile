# ARGS goes to the script: make test ARGS="tests/fleet -x", make demo ARGS=--once
ARGS ?=

.PHONY: help install demo test test-all check docs chaos audit sbom bench bench-all bench-backends bench-generation bench-media fuzz clean

help:      ## this list
	@sed -nE 's/^([a-z-]+): .*## (.*)/make \1\t\2/p' Makefile

install:   ## make .venv with everything; at once when up to date
	@scripts/install

demo: install      ## build the demo models, start the server, send it real requests
	@scripts/demo $(ARGS)

test: install      ## the tests, slow ones left out
	@scripts/test $(ARGS)

test-all: install  ## every test
	@scripts/test --all $(ARGS)

check: install     ## format, lint, types, layers, licences, links of the documents
	@scripts/check $(ARGS)

docs: install      ## the documentation site on http://127.0.0.1:8100, following changes
	@NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs serve --dev-addr 127.0.0.1:8100 $(ARGS)

chaos: install     ## inject every fault under load, half an hour: writes docs/reliability.md (ARGS=--short: a minute)
	@.venv/bin/python -m tests.chaos --write $(ARGS)

audit: install     ## known vulnerabilities of what is installed; needs the network
	@scripts/audit $(ARGS)

sbom: install      ## what is installed, as CycloneDX in dist/sbom.cdx.json
	@scripts/sbom $(ARGS)

bench: install     ## the server against plain transformers on this machine
	@scripts/bench $(ARGS)

bench-all: install ## everyone on this machine, in one run: writes docs/benchmarks.md (ARGS=--quick: under an hour)
	@.venv/bin/python -m bench.all $(ARGS)

bench-backends: install    ## the same rows by torch, ONNX Runtime and OpenVINO
	@.venv/bin/python -m bench.backends $(ARGS)

bench-generation: install  ## generated texts against vLLM's CPU build and transformers serve
	@.venv/bin/python -m bench.generation $(ARGS)

bench-media: install  ## images, speech and zero-shot texts against plain transformers
	@.venv/bin/python -m bench.media $(ARGS)

fuzz: install      ## what reads input from outside, with millions of wrong ones (ARGS="--seconds 600")
	@.venv/bin/python -m tests.hostile.fuzz $(ARGS)

clean:             ## what this repository built and cached
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis .schemathesis .import_linter_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
