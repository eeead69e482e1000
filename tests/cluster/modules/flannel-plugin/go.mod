module harness/tests/cluster/flannel-plugin

go 1.26.0

// the last version with flannel in it: its own module is not served everywhere
require github.com/containernetworking/plugins v0.9.1
