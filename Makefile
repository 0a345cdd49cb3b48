# The two commands of a newcomer are `make run` and `make test`.

GO ?= go
DATA ?= data
LISTEN ?= 127.0.0.1:8008

.PHONY: build run test check e2e browser fuzz soak bench microbench cluster cluster-stop clean

build: ## all binaries, in bin/
	$(GO) build -trimpath -o bin/ ./cmd/...

run: build ## a homeserver on localhost, with keys and data under $(DATA)
	@mkdir -p $(DATA) && [ -s $(DATA)/registration.secret ] || (umask 077; head -c 24 /dev/urandom | base64 > $(DATA)/registration.secret)
	@echo "Make the first account: bin/create-account --url http://$(LISTEN) --shared-secret-file $(DATA)/registration.secret --username NAME --admin"
	DENDRITE_REGISTRATION_SHARED_SECRET_FILE=$(DATA)/registration.secret ./bin/dendrite --data $(DATA) --server-name localhost --listen $(LISTEN)

test: check ## everything, with the race detector; installs what the tests need
	scripts/test-dependencies
	scripts/kafka with scripts/postgres with $(GO) test -race -timeout 15m $$($(GO) list ./... | grep -v -e '/e2e$$' -e '/deploy/cluster$$')
	$(GO) test -race -timeout 40m -p 1 ./deploy/cluster ./e2e # real processes, which get the machine for themselves

check: ## what needs no running: formatting, vet
	@test -z "$$(gofmt -l $$(git ls-files "*.go") | tee /dev/stderr)"
	$(GO) vet ./...

e2e: ## only the end-to-end tests
	scripts/test-dependencies
	scripts/postgres with $(GO) test -race -count 1 -v ./e2e/...

SCREENSHOTS ?= screenshots
browser: ## two people with a web client in real Chromium, with what `make run` starts; what they saw is in $(SCREENSHOTS)
	scripts/test-dependencies browser
	CHROMIUM=$${CHROMIUM:-$$(command -v chromium)} node e2e/browser/run.mjs $$(scripts/cinny where) $(SCREENSHOTS)

FUZZTIME ?= 10m
fuzz: ## every fuzz target for FUZZTIME
	scripts/fuzz $(FUZZTIME)

SOAK ?= 1h
soak: ## the long form of faults and fuzzing
	scripts/test-dependencies
	$(GO) test -race -count 1 -v -timeout 0 ./e2e/... -e2e.soak $(SOAK)
	scripts/fuzz $(FUZZTIME)

BENCH ?=
bench: ## a whole server measured from outside: BENCH="-small", "-run sync,keys", "-cluster DIR"
	$(GO) run ./e2e/bench $(BENCH)

microbench: ## Go benchmarks with allocations
	$(GO) test -run '^$$' -bench . -benchmem ./...

INSTANCES ?= 2
CLUSTER ?= cluster
cluster: ## the services of docker-compose.yml without containers, with all state below $(CLUSTER)
	scripts/cluster start $(CLUSTER) --instances $(INSTANCES) --listen $(lastword $(subst :, ,$(LISTEN)))

cluster-stop:
	scripts/cluster stop $(CLUSTER)

clean:
	rm -rf bin e2e/clients/node_modules e2e/browser/node_modules screenshots
