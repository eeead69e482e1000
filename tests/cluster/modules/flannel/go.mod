module harness/tests/cluster/flannel

go 1.26.0

require github.com/flannel-io/flannel v0.28.4

// 1.3.79, which it asks for, is not served everywhere
require github.com/tencentcloud/tencentcloud-sdk-go/tencentcloud/common v1.3.82
