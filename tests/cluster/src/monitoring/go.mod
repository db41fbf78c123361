// Holds the version of Prometheus Operator whose resource definitions
// tests/cluster/monitoring-crds reads out of the module. Nothing is built.
module monitoring

go 1.26.6

require github.com/prometheus-operator/prometheus-operator v0.85.0
