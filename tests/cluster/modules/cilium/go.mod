module harness/tests/cluster/cilium

go 1.23.0

require github.com/cilium/cilium v1.15.19

replace go.universe.tf/metallb => github.com/cilium/metallb v0.1.1-0.20220829170633-5d7dfb1129f7
replace sigs.k8s.io/controller-tools => github.com/cilium/controller-tools v0.8.0-1
