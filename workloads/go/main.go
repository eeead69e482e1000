// A Go net/http service with the routes that all workloads share.
package main

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math/rand"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const mebibyte = 1 << 20

var (
	databaseWait = time.Duration(environmentInt("WORKLOAD_WAIT_MS", 10)) * time.Millisecond
	kept         [][]byte
	keptMutex    sync.Mutex
)

func main() {
	host := flag.String("host", "127.0.0.1", "address to listen on")
	port := flag.Int("port", 0, "port to listen on; 0 picks one")
	flag.Parse()
	listener, err := net.Listen("tcp", net.JoinHostPort(*host, strconv.Itoa(*port)))
	if err != nil {
		log.Fatal(err)
	}
	listenUpstream()
	server := &http.Server{Handler: routes()}
	stopped := make(chan struct{})
	go stopOnSignal(server, stopped)
	fmt.Printf("{\"ready\": true, \"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	if err := server.Serve(listener); err != http.ErrServerClosed {
		log.Fatal(err)
	}
	<-stopped
}

func stopOnSignal(server *http.Server, stopped chan<- struct{}) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	<-signals
	grace, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	close(stopped)
}

func routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", hello)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/api/users/", user)
	mux.HandleFunc("/cpu", cpu)
	mux.HandleFunc("/alloc", alloc)
	mux.HandleFunc("/api/orders/", order)
	mux.HandleFunc("/file", file)
	mux.HandleFunc("/exec", execute)
	return mux
}

func hello(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(w, r)
		return
	}
	fmt.Fprintln(w, "hello")
}

// user waits as a database would, then answers with JSON.
func user(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/api/users/"))
	if err != nil || id < 0 {
		http.NotFound(w, r)
		return
	}
	wait, ok := queryInt(w, r, "wait_ms", int(databaseWait/time.Millisecond), 60_000)
	if !ok {
		return
	}
	time.Sleep(time.Duration(wait) * time.Millisecond)
	writeJSON(w, map[string]any{"id": id, "name": fmt.Sprintf("User %d", id), "active": id%2 == 0})
}

func cpu(w http.ResponseWriter, r *http.Request) {
	blocks, ok := queryInt(w, r, "blocks", 64, 1_000_000)
	if !ok {
		return
	}
	writeJSON(w, map[string]any{"blocks": blocks, "md5": fmt.Sprintf("%x", digest(blocks))})
}

// digest hashes `blocks` random blocks of 1 KiB and returns the last sum.
func digest(blocks int) [md5.Size]byte {
	var block [1024]byte
	var sum [md5.Size]byte
	state := rand.Uint64() | 1
	for i := 0; i < blocks; i++ {
		for offset := 0; offset < len(block); offset += 8 {
			state ^= state << 13 // xorshift: the shared generator takes a lock each time
			state ^= state >> 7
			state ^= state << 17
			binary.LittleEndian.PutUint64(block[offset:], state)
		}
		sum = md5.Sum(block[:])
	}
	return sum
}

// alloc fills `mb` MiB and lets go of them; with keep=1 it leaks 1 MiB too.
func alloc(w http.ResponseWriter, r *http.Request) {
	size, ok := queryInt(w, r, "mb", 1, 256)
	if !ok {
		return
	}
	for i := 0; i < size; i++ {
		filled()
	}
	if r.URL.Query().Get("keep") == "1" {
		keptMutex.Lock()
		kept = append(kept, filled())
		keptMutex.Unlock()
	}
	keptMutex.Lock()
	defer keptMutex.Unlock()
	writeJSON(w, map[string]any{"mb": size, "kept_mb": len(kept)})
}

func filled() []byte {
	block := make([]byte, mebibyte)
	for i := 0; i < len(block); i += 4096 {
		block[i] = 1
	}
	return block
}

func queryInt(w http.ResponseWriter, r *http.Request, key string, fallback, limit int) (int, bool) {
	text := r.URL.Query().Get(key)
	if text == "" {
		return fallback, true
	}
	value, err := strconv.Atoi(text)
	if err != nil || value < 0 || value > limit {
		http.Error(w, fmt.Sprintf("%s must be 0 to %d", key, limit), http.StatusBadRequest)
		return 0, false
	}
	return value, true
}

func environmentInt(key string, fallback int) int {
	value, err := strconv.Atoi(os.Getenv(key))
	if err != nil || value < 0 {
		return fallback
	}
	return value
}

func writeJSON(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(value)
}
