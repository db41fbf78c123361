# Names only; what they do is in the files they call. `make demo` and `make test` work on a fresh machine.
.PHONY: demo test check generate cluster e2e e2e-drain live clients conformance chaos faults fuzz images bench bench-instructions bench-churn simulate clean

demo: ## the main job on this machine: a worker, an in-memory Conductor, 500 workflows
	cargo build --release -q -p kubectl-conductor -p greet
	target/release/kubectl-conductor dev examples/greet/worker.yaml examples/greet/workflow.json --command target/release/greet --load 500

test: ## everything: lints, unit and property tests, chart, Conductor's clients, conformance, end to end on a real cluster
	tests/run

check: ## formatting and lints only
	tests/check

generate: ## rewrites what is generated: crds/, the chart's copy, the references in docs/
	UPDATE=1 cargo test -q -p api -p operator -p worker-sidecar
	tests/chart/sync

cluster: ## a real one-node Kubernetes and a real Conductor; prints how to reach them
	tests/cluster/get && tests/cluster/bed up

e2e: ## the end-to-end suite on a real cluster
	cargo test -p cluster

e2e-drain: ## the same, with fifty scale-downs and twenty evictions under load instead of five each
	SCALE_DOWNS=50 EVICTIONS=20 cargo test -p cluster

live: ## the autoscaler on a real cluster beside KEDA, a fixed Deployment and the simulator; target/live/{report.md,plot.svg}
	cargo test --release -p live -- $(LIVE)

conformance: ## the in-memory Conductor and the real one against one suite
	cargo test -p conformance

chaos: ## workers on a real cluster while everything breaks, and beside Go SDK workers; target/chaos/report.md
	CHAOS=long cargo test -p chaos -- $(CASES)

faults: ## faults between, before and behind the sidecar, 10,000 tasks each; target/faults/report.md
	FAULTS=long cargo test -p faults

clients: ## Conductor's official Go and Python clients against the sidecar's local task API
	cargo test -p local-api

fuzz: ## ten million made-up inputs for the sidecar's readers
	tests/fuzz/run long

images: ## container images of the operator, the sidecar and the example
	tests/cluster/images

# In a profile with the names of functions; otherwise the release build.
build-bench = cargo build -q --profile profiling -p bench -p worker-sidecar && target/profiling/bench

bench: ## the sidecar beside workers on Conductor's SDKs; tables and a plot in target/bench
	$(build-bench) run $(BENCH)

bench-instructions: ## instructions a task of the sidecar and of the least loop, by callgrind
	tests/bench/valgrind
	$(build-bench) instructions $(BENCH)

bench-churn: ## two million tasks through the sidecar: whether its memory grows
	$(build-bench) churn $(BENCH)

simulate: ## every scenario under every autoscaler; SIMULATE='--policies ours --plot out.svg' changes that
	cargo run -q --release -p kubectl-conductor -- simulate crates/simulator/scenarios/*.yaml $(or $(SIMULATE),--policies all)

clean: ## ends what `make cluster` started and removes build output; keeps the cache
	tests/cluster/bed down; cargo clean
