package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

var (
	program  = environment("WORKLOAD_PROGRAM", "/bin/true")
	watched  = environment("WORKLOAD_FILE", "watched.txt")
	upstream string // address of what orders wait for
)

// listenUpstream starts what orders wait for: a line in, the wait of a database, a line out.
func listenUpstream() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	upstream = listener.Addr().String()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go answer(connection)
		}
	}()
}

func answer(connection net.Conn) {
	defer connection.Close()
	if line, err := bufio.NewReader(connection).ReadString('\n'); err == nil {
		time.Sleep(databaseWait)
		fmt.Fprintf(connection, "Order %s", line)
	}
}

// order asks the upstream over a connection of its own.
func order(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/api/orders/"))
	if err != nil || id < 0 {
		http.NotFound(w, r)
		return
	}
	name, err := asked(id)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	writeJSON(w, map[string]any{"id": id, "name": name})
}

func asked(id int) (string, error) {
	connection, err := net.Dial("tcp", upstream)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	fmt.Fprintf(connection, "%d\n", id)
	line, err := bufio.NewReader(connection).ReadString('\n')
	return strings.TrimSuffix(line, "\n"), err
}

// file reads a file that a collector may watch.
func file(w http.ResponseWriter, _ *http.Request) {
	content, err := os.ReadFile(watched)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, map[string]any{"bytes": len(content)})
}

// execute runs a small program and waits for its end.
func execute(w http.ResponseWriter, _ *http.Request) {
	process, err := os.StartProcess(program, []string{program}, &os.ProcAttr{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	state, err := process.Wait()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	writeJSON(w, map[string]any{"exit_code": state.ExitCode()})
}

func environment(key, fallback string) string {
	if value := os.Getenv(key); value != "" {
		return value
	}
	return fallback
}
