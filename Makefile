# The tasks of a developer; `make` alone lists them. Nothing is installed outside this directory, but for the
# Debian packages of test/debian-packages.txt, which `make test` installs when it is run by root.

PYTHON ?= python3
# what runs in CMSSW is tested with CMSSW's versions, for which there are wheels up to Python 3.11
CMSSW_PYTHON ?= $(shell for python in $(PYTHON) python3.11 python3.10 python3.9; do \
	$$python -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 12))' 2>/dev/null \
	&& echo $$python && break; done)
OLDEST ?= python3.10
PYTEST_ARGS ?=
# versions of all packages for .venv, such as those of constraints.txt; none: the newest ones
CONSTRAINTS ?=
# tests start hundreds of programs, and each would compile all that it imports
unexport PYTHONDONTWRITEBYTECODE
DEBIAN_PACKAGES := test/debian-packages.txt
# each file of tests in one process, since what a file's tests share takes long to make
# and some processes more than there are cores, since many tests wait for a server or a batch system
PROCESSES := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
PARALLEL := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

VENV := .venv
VENV_CMSSW := .venv-cmssw
VENV_ROOT := .venv-root
CMSSW_CONSTRAINTS := test/cmssw_13_3_constraints.txt
PACKAGING := pyproject.toml setup.py

# each part can be deleted, and the others go on working
DATA := $(wildcard data_processing)
TRAINING := $(wildcard ML_processing)
FIT := $(wildcard statistical_analysis)
PACKAGES := -p MLTools.NanoML $(addprefix -p ,$(DATA) $(TRAINING) $(FIT))
TESTS_CMSSW := test/python test/scripts $(if $(DATA),$(wildcard test/data_processing)) extensions
# those of the extensions that need Python 3.10
NEWER := $(dir $(shell grep -l 'python=(3, 10)' extensions/*/__init__.py))
TESTS_EXHAUSTIVE = $(shell grep -rl --include='test_*.py' 'mark\.exhaustive\b' test extensions)
TESTS_ROOT = $(shell grep -rl --include='test_*.py' 'mark\.root\b' test extensions)
TESTS_NANOAODTOOLS = $(shell grep -rlE --include='test_*.py' 'services\.nanoaodtools|PhysicsTools\.NanoAODTools|nano_postproc' test extensions)

# stamps, renewed when the packaging changes; a developer's environment will do for the example
DEV := $(VENV)/.installed-all,xrootd,dask,tensorboard,mlflow,test,dev,doc
ALL := $(or $(wildcard $(DEV)),$(VENV)/.installed-all)
CMSSW := $(VENV_CMSSW)/.installed-data,xrootd,test
ROOT := $(VENV_ROOT)/.installed

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test test-exhaustive test-all test-cmssw test-root test-nanoaodtools compilers bench install install-cmssw debian lint style types types-oldest versions format doc constraints wheel container clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.11] [CONSTRAINTS=constraints.txt] [PYTEST_ARGS='-k accounting']"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1\t\2/p' Makefile | expand -t 20

demo: $(ALL) ## install NanoML into .venv and run the worked examples: one network, and an analysis with corrections up to a limit
	$(VENV)/bin/nanoml run examples/trilepton.yaml
	$(VENV)/bin/nanoml run examples/wz.yaml
	@echo "Look at examples/trilepton/index.html and examples/wz/index.html"

test: debian $(DEV) ## prove in minutes that NanoML works here: the examples, each stage, the C++, a job, the fit
	$(VENV)/bin/python -m pytest $(PARALLEL) -m "not exhaustive" $(PYTEST_ARGS)

test-exhaustive: debian $(DEV) ## run the tests that are left: all cases of everything
	$(VENV)/bin/python -m pytest $(PARALLEL) -m exhaustive $(TESTS_EXHAUSTIVE) $(PYTEST_ARGS)

test-all: test test-exhaustive test-cmssw ## run all tests, and those of what runs in CMSSW also with CMSSW's versions

ifneq ($(CMSSW_PYTHON),)
test-cmssw: debian $(CMSSW) ## run the tests of what runs in CMSSW, but for what is exhaustive about jobs and servers, with the versions of CMSSW_13_3
	$(VENV_CMSSW)/bin/python -m pytest $(PARALLEL) -m "not (exhaustive and service)" $(TESTS_CMSSW) $(PYTEST_ARGS)

install-cmssw: $(CMSSW) ## install NanoML with the versions of CMSSW_13_3 into .venv-cmssw
else
test-cmssw install-cmssw:
	@echo "Skipped: what runs in CMSSW is not tested with the versions of CMSSW_13_3. They need a Python from 3.9 to 3.11, and"
	@echo "there is none. If there is one by another name: make $@ CMSSW_PYTHON=/path/to/python3.9"
endif

test-root: debian $(ROOT) ## run the tests that need ROOT, with that of PyPI
	$(VENV_ROOT)/bin/python -m pytest $(PARALLEL) -m root $(TESTS_ROOT) $(PYTEST_ARGS)

# the tools are imported under their name in CMSSW
test-nanoaodtools: export PATH := $(abspath $(NANOAODTOOLS))/scripts:$(PATH)
test-nanoaodtools: export PYTHONPATH := $(abspath build/nanoaodtools)
test-nanoaodtools: debian $(ROOT) ## run the tests that need nanoAOD-tools and ROOT: NANOAODTOOLS=directory of a checkout
	@test -d '$(NANOAODTOOLS)/python/postprocessing' || { echo "make $@ NANOAODTOOLS=PhysicsTools/NanoAODTools of CMSSW, or a clone of cms-nanoAOD/nanoAOD-tools"; exit 1; }
	@mkdir -p build/nanoaodtools/PhysicsTools
	@touch build/nanoaodtools/PhysicsTools/__init__.py
	@ln -sfn $(abspath $(NANOAODTOOLS))/python build/nanoaodtools/PhysicsTools/NanoAODTools
	@$(VENV_ROOT)/bin/python -W ignore -c 'import PhysicsTools.NanoAODTools.postprocessing.framework.postprocessor'
	$(VENV_ROOT)/bin/python -m pytest $(PARALLEL) $(TESTS_NANOAODTOOLS) $(PYTEST_ARGS)

install: $(DEV) ## install NanoML and all that a developer needs into .venv

lint: style types versions ## check everything that can be checked without running it

style: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(DEV) build/types/MLTools/NanoML
	MYPYPATH=build/types $(VENV)/bin/mypy $(PACKAGES)

# NumPy's types differ between the Pythons: those of the oldest one stand before all packages of the newest one
types-oldest: $(DEV) build/types/MLTools/NanoML ## check the types with OLDEST=python3.10 as well
	@test "$$($(OLDEST) -V)" != "$$($(VENV)/bin/python -V)" || { echo "Skipped: there is no older Python than $(PYTHON)."; exit 0; }; \
	set -ex; $(OLDEST) -m venv --clear build/oldest; build/oldest/bin/python -m pip install --quiet --no-deps numpy; \
	$(VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$$(echo build/oldest/lib/python*/site-packages)/newest.pth"; \
	MYPYPATH=build/types $(VENV)/bin/mypy --python-executable=build/oldest/bin/python $(PACKAGES)

versions: $(DEV)
	$(VENV)/bin/vermin python $(DATA) $(filter-out $(NEWER),$(wildcard extensions/*/)) $(wildcard extensions/*/__init__.py extensions/*/settings.py)
	$(if $(TRAINING)$(FIT)$(NEWER),$(VENV)/bin/vermin --no-config-file -t=3.10- --violations --no-tips $(TRAINING) $(FIT) $(NEWER))

format: $(DEV) ## put the code into its form, and mend what can be mended
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

bench: $(DEV) ## measure how fast NanoML is, and write what was found into doc/speed.md: forty minutes on a machine that does nothing else
	$(VENV)/bin/python bench/page.py

doc: $(DEV) ## build the manual into build/site
	$(VENV)/bin/mkdocs build --strict
	@echo "The manual: build/site/index.html"

constraints: $(DEV) ## write constraints.txt with the versions of all packages of .venv: those of a run in which all tests passed
	@{ $(VENV)/bin/python -c 'import sys; print("# All tests passed with these, with Python %d.%d: make install CONSTRAINTS=constraints.txt. Made by make constraints." % sys.version_info[:2])'; \
	$(VENV)/bin/python -m pip list --format freeze --exclude-editable --exclude pip --exclude setuptools \
	| sed 's/+[a-z0-9.]*$$//; /^nvidia-/d; /^cuda-/d; /^triton==/d'; } >constraints.new # CUDA is PyTorch's choice, by machine
	@mv constraints.new constraints.txt

wheel: $(VENV)/.created ## build dist/nanoml-*.whl
	rm -rf build/lib build/bdist.* dist
	$(VENV)/bin/python -m pip wheel --quiet --no-deps --wheel-dir dist .
	@ls dist/*.whl

# EXTRAS: the parts of NanoML in it. BUILD_OPTIONS: --build-arg BASE=IMAGE, for instance
EXTRAS ?= all,xrootd,dask
BUILDER ?= $(firstword $(foreach it,podman docker,$(shell command -v $(it))))
container: ## build the image of the Dockerfile, build/nanoml.tar, and build/nanoml.sif where there is Apptainer
ifeq ($(BUILDER),)
	@echo "make container needs podman or docker, and this machine has neither: on Debian apt-get install podman; lxplus has it."
	@exit 1
else
	$(BUILDER) build --build-arg EXTRAS=$(EXTRAS) $(BUILD_OPTIONS) --tag nanoml .
	@mkdir -p build && rm -f build/nanoml.tar
	$(BUILDER) save --output build/nanoml.tar nanoml
	@! command -v apptainer >/dev/null || apptainer build --force build/nanoml.sif docker-archive:build/nanoml.tar
	@ls build/nanoml.*
endif

clean: ## remove the environments and all that was built; the results of the example stay
	rm -rf $(VENV) $(VENV_CMSSW) $(VENV_ROOT) build dist nanoml.egg-info .coverage htmlcov .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# mypy takes a package's name from the directories that it is in
build/types/MLTools/NanoML:
	mkdir -p $(@D)
	ln -sfn ../../../python $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
		echo "$(PYTHON) is missing or older than Python 3.10, which training needs. Name another: make $(MAKECMDGOALS) PYTHON=python3.11"; \
		exit 1; }
	$(call make_venv,$(PYTHON),$(@D))
	@touch $@

$(VENV_CMSSW)/.created:
	$(call make_venv,$(CMSSW_PYTHON),$(@D))
	@touch $@

# ROOT beside all that is installed in the other environment, for the same Python
$(ROOT): $(DEV)
	$(call make_venv,$(VENV)/bin/python,$(@D))
	@echo "Installing ROOT into $(@D): 250 MB"
	@$(@D)/bin/python -m pip install --quiet --no-deps root
	@$(VENV)/bin/python -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		>"$$($(@D)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/nanoml.pth"
	@$(@D)/bin/python -W ignore -c 'import ROOT, MLTools.NanoML; print("ROOT", ROOT.__version__)'
	@touch $@

# a dot now and then shows that it is alive
define install
	@(while sleep 5; do printf .; done) & trap "kill $$!; echo" EXIT; \
	$(1)/bin/python -m pip install --quiet --no-compile --editable '.[$(2)]' $(3)
	@touch $(1)/.installed-$(2)
endef

define make_venv
	@echo "Making $(2) with $(1)"
	@$(1) -m venv $(2) || { echo "$(1) cannot make an environment. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
endef

# an environment that is there may have other versions, and be newer than the file
ifneq ($(CONSTRAINTS),)
$(if $(wildcard $(CONSTRAINTS)),,$(error CONSTRAINTS=$(CONSTRAINTS): there is no such file))
.PHONY: $(CONSTRAINTS)
endif

# most modules are never imported, so none is compiled before
$(VENV)/.installed-%: $(PACKAGING) $(CONSTRAINTS) | $(VENV)/.created
	@echo "Installing NanoML [$*] into $(VENV): a few minutes the first time"
	$(call install,$(VENV),$*,$(addprefix --constraint ,$(CONSTRAINTS)))

$(VENV_CMSSW)/.installed-%: $(PACKAGING) $(CMSSW_CONSTRAINTS) | $(VENV_CMSSW)/.created
	@echo "Installing NanoML [$*] with CMSSW's versions into $(VENV_CMSSW): a minute or two the first time"
	$(call install,$(VENV_CMSSW),$*,--constraint $(CMSSW_CONSTRAINTS))

compilers: DEBIAN_PACKAGES += test/debian-compilers.txt
compilers: debian ## compile the C++ with every GCC as C++17 and with every Clang as C++20; here a warning is an error
	@set -e; for compiler in /usr/bin/g++-[0-9]* /usr/bin/clang++-[0-9]*; do test -x $$compiler || continue; \
		build=$(abspath build)/compilers/$${compiler##*/}; echo "$$compiler"; \
		case $$compiler in *clang*) standard=20;; *) standard=17;; esac; \
		$(MAKE) --silent -j2 -C test/cpp all BUILD=$$build CXX=$$compiler STD=$$standard FLAGS=-Werror UNITY=1; \
		$$build/testNanoML; $$build/testTables; \
	done

debian: ## install the Debian packages that tests need, as root; what a release does not have is left out
	@packages=$$(grep -hv '^ *\(#\|$$\)' $(DEBIAN_PACKAGES)) || exit 0; \
	command -v dpkg-query >/dev/null || { echo "Not Debian: tests that need these packages skip:" $$packages; exit 0; }; \
	missing=$$(for package in $$packages; do \
		dpkg-query -W -f '$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || echo $$package; done); \
	test -n "$$missing" || exit 0; \
	test "$$(id -u)" = 0 || { echo "Tests that need these Debian packages skip:" $$missing; exit 0; }; \
	apt-get -qq update; \
	found=$$(LC_ALL=C apt-cache policy $$missing | sed -n '/^[^ ]/{s/:$$//;h}; /Candidate: [^(]/{g;p}'); \
	absent=$$(for package in $$missing; do echo "$$found" | grep -qxF "$$package" || echo $$package; done); \
	test -z "$$absent" || echo "This release does not have these Debian packages; tests that need them skip:" $$absent; \
	test -z "$$found" || DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $$found >/dev/null
