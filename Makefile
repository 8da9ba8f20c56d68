# Every target is one command you could type yourself; `make help` lists them.

GO       ?= go
FUZZTIME ?= 20s
COUNT    ?= 10
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

.DEFAULT_GOAL := help
.PHONY: help demo build test race fuzz bench cover fmt vet portable lint e2e long package check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{printf "make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a CA, three backends and all three modes on loopback; needs no file
	$(GO) run ./cmd/snicket demo

build: ## the static binary bin/snicket
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/snicket ./cmd/snicket

test: ## unit and integration tests; needs Go alone
	$(GO) test ./...

race: ## the same under the race detector, in random order
	$(GO) test -race -shuffle=on ./...

fuzz: ## every fuzz target for FUZZTIME (20s)
	GO=$(GO) .ci/fuzz $(FUZZTIME)

bench: ## every benchmark COUNT (10) times, for benchstat
	$(GO) test -run '^$$' -bench . -benchmem -count $(COUNT) ./...

cover: ## statement coverage, by function, in cover.out
	$(GO) test -coverprofile=cover.out -coverpkg=./... ./... && $(GO) tool cover -func=cover.out

fmt: ## rewrite every file in gofumpt's format
	$(GO) run $(GOLANGCI) fmt

vet: ## go vet, the tagged tests too
	$(GO) vet -tags e2e,long ./...

portable: ## the three libraries build where the balancer does not
	for os in darwin windows freebsd; do GOOS=$$os $(GO) build ./sni/... ./balancer/... ./health || exit 1; done

lint: ## golangci-lint, format included; the first run builds the tool
	$(GO) run $(GOLANGCI) run

e2e: ## the real binary with real clients, servers and peers; needs root and the packages of .ci/run
	$(GO) test -tags e2e -count 1 -timeout 15m ./e2e ./pkg/certs/acme ./pkg/discover ./pkg/web ./internal/lab ./benchmarks/rig

long: ## soaks and full-size runs, on top of e2e
	$(GO) test -tags e2e,long -count 1 -timeout 60m -v ./e2e ./pkg/relay
	$(GO) test -race -tags long -count 1 -timeout 60m -run Random -v ./pkg/proxy

package: build ## the .deb and the .rpm, in dist/
	.ci/package bin/snicket $(VERSION) dist

check: vet portable lint race fuzz e2e ## everything that must hold before a change is merged
