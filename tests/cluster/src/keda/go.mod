// Holds the version of KEDA that tests/cluster/get builds out of the module itself, by
// its own go.mod and go.sum; this go.sum holds those two to what they are.
module keda

go 1.26.6

require github.com/kedacore/keda/v2 v2.21.0
