module harness/tests/cluster/etcd

go 1.26.8

require (
	go.etcd.io/etcd/api/v3 v3.6.4
	go.etcd.io/etcd/client/pkg/v3 v3.6.4
	go.etcd.io/etcd/client/v3 v3.6.4
	go.etcd.io/etcd/pkg/v3 v3.6.4
	go.etcd.io/etcd/server/v3 v3.6.4
)
