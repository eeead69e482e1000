import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;

/** A service on the JDK's own HTTP server, with the routes that all workloads share. */
public final class Server {
    private static final int MEBIBYTE = 1 << 20;
    private static final int THREADS = 64;
    private static final String USERS = "/api/users/";
    private static final String ORDERS = "/api/orders/";
    private static final int DATABASE_WAIT_MS =
            Integer.parseInt(System.getenv().getOrDefault("WORKLOAD_WAIT_MS", "10"));
    private static final String PROGRAM =
            System.getenv().getOrDefault("WORKLOAD_PROGRAM", "/bin/true");
    private static final Path WATCHED =
            Path.of(System.getenv().getOrDefault("WORKLOAD_FILE", "watched.txt"));
    private static final List<byte[]> KEPT = Collections.synchronizedList(new ArrayList<>());

    private static ServerSocket upstream; // what orders wait for

    public static void main(String[] arguments) throws IOException {
        String host = option(arguments, "--host", "127.0.0.1");
        int port = Integer.parseInt(option(arguments, "--port", "0"));
        upstream = new ServerSocket(0, 128, InetAddress.getLoopbackAddress());
        ExecutorService threads = executor();
        threads.execute(() -> serveUpstream(threads));
        HttpServer server = HttpServer.create(new InetSocketAddress(host, port), 128);
        server.createContext("/", exchange -> answer(exchange, Server::route));
        server.setExecutor(threads);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.stop(0);
            Runtime.getRuntime().halt(0); // the JVM would report SIGTERM as 143
        }));
        server.start();
        System.out.printf("{\"ready\": true, \"port\": %d}%n", server.getAddress().getPort());
    }

    private static Reply route(HttpExchange exchange) throws Exception {
        String path = exchange.getRequestURI().getPath();
        if (path.startsWith(USERS)) {
            return user(exchange, path.substring(USERS.length()));
        }
        if (path.startsWith(ORDERS)) {
            return order(path.substring(ORDERS.length()));
        }
        switch (path) {
            case "/":
                return Reply.text("hello\n");
            case "/healthz":
                return Reply.text("ok\n");
            case "/cpu":
                return cpu(number(exchange, "blocks", 64, 1_000_000));
            case "/alloc":
                return alloc(number(exchange, "mb", 1, 256), "1".equals(query(exchange, "keep")));
            case "/file":
                return Reply.json(String.format("{\"bytes\": %d}", Files.readAllBytes(WATCHED).length));
            case "/exec":
                return Reply.json(String.format("{\"exit_code\": %d}", execute()));
            default:
                return Reply.NOT_FOUND;
        }
    }

    /** Waits as a database would, then answers with JSON. */
    private static Reply user(HttpExchange exchange, String id) throws InterruptedException {
        if (!id.matches("\\d{1,9}")) {
            return Reply.NOT_FOUND;
        }
        Thread.sleep(number(exchange, "wait_ms", DATABASE_WAIT_MS, 60_000));
        int number = Integer.parseInt(id);
        return Reply.json(String.format(
                "{\"id\": %d, \"name\": \"User %d\", \"active\": %b}", number, number, number % 2 == 0));
    }

    private static Reply cpu(int blocks) throws NoSuchAlgorithmException {
        MessageDigest md5 = MessageDigest.getInstance("MD5");
        byte[] block = new byte[1024];
        byte[] sum = new byte[16];
        for (int i = 0; i < blocks; i++) {
            ThreadLocalRandom.current().nextBytes(block);
            sum = md5.digest(block);
        }
        StringBuilder hex = new StringBuilder();
        for (byte one : sum) {
            hex.append(String.format("%02x", one));
        }
        return Reply.json(String.format("{\"blocks\": %d, \"md5\": \"%s\"}", blocks, hex));
    }

    /** Fills `megabytes` MiB and lets go of them; with keep it leaks 1 MiB too. */
    private static Reply alloc(int megabytes, boolean keep) {
        for (int i = 0; i < megabytes; i++) {
            filled();
        }
        if (keep) {
            KEPT.add(filled());
        }
        return Reply.json(String.format("{\"mb\": %d, \"kept_mb\": %d}", megabytes, KEPT.size()));
    }

    /** Asks the upstream over a connection of its own. */
    private static Reply order(String id) throws IOException {
        if (!id.matches("\\d{1,9}")) {
            return Reply.NOT_FOUND;
        }
        try (Socket connection = new Socket(upstream.getInetAddress(), upstream.getLocalPort())) {
            connection.getOutputStream().write((id + "\n").getBytes(StandardCharsets.UTF_8));
            return Reply.json(String.format("{\"id\": %s, \"name\": \"%s\"}", id, line(connection)));
        }
    }

    /** Runs a small program and waits for its end. */
    private static int execute() throws IOException, InterruptedException {
        return new ProcessBuilder(PROGRAM).inheritIO().start().waitFor();
    }

    private static void serveUpstream(ExecutorService threads) {
        try {
            while (true) {
                Socket connection = upstream.accept();
                threads.execute(() -> answerUpstream(connection));
            }
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    /** A line in, the wait of a database, a line out. */
    private static void answerUpstream(Socket connection) {
        try (connection) {
            String line = line(connection);
            Thread.sleep(DATABASE_WAIT_MS);
            connection.getOutputStream()
                    .write(("Order " + line + "\n").getBytes(StandardCharsets.UTF_8));
        } catch (IOException | InterruptedException error) {
            System.err.println("upstream: " + error);
        }
    }

    private static String line(Socket connection) throws IOException {
        return new BufferedReader(new InputStreamReader(
                connection.getInputStream(), StandardCharsets.UTF_8)).readLine();
    }

    private static byte[] filled() {
        byte[] block = new byte[MEBIBYTE];
        for (int i = 0; i < block.length; i += 4096) {
            block[i] = 1;
        }
        return block;
    }

    private static void answer(HttpExchange exchange, Route route) throws IOException {
        Reply reply;
        try {
            reply = route.answer(exchange);
        } catch (IllegalArgumentException error) {
            reply = new Reply(400, "text/plain", error.getMessage() + "\n");
        } catch (Exception error) {
            reply = new Reply(500, "text/plain", error + "\n");
        }
        byte[] body = reply.body.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", reply.type);
        if ("close".equalsIgnoreCase(exchange.getRequestHeaders().getFirst("Connection"))) {
            exchange.getResponseHeaders().set("Connection", "close"); // it closes, but does not say so
        }
        exchange.sendResponseHeaders(reply.status, body.length);
        try (OutputStream stream = exchange.getResponseBody()) {
            stream.write(body);
        }
    }

    private static int number(HttpExchange exchange, String key, int fallback, int limit) {
        String text = query(exchange, key);
        if (text == null) {
            return fallback;
        }
        if (!text.matches("\\d{1,9}") || Integer.parseInt(text) > limit) {
            throw new IllegalArgumentException(key + " must be 0 to " + limit);
        }
        return Integer.parseInt(text);
    }

    private static String query(HttpExchange exchange, String key) {
        String query = exchange.getRequestURI().getQuery();
        for (String pair : query == null ? new String[0] : query.split("&")) {
            if (pair.startsWith(key + "=")) {
                return pair.substring(key.length() + 1);
            }
        }
        return null;
    }

    private static String option(String[] arguments, String name, String fallback) {
        for (int i = 0; i + 1 < arguments.length; i++) {
            if (arguments[i].equals(name)) {
                return arguments[i + 1];
            }
        }
        return fallback;
    }

    /** Virtual threads where the JDK has them (21 and later), else a pool. */
    private static ExecutorService executor() {
        try {
            return (ExecutorService)
                    Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
        } catch (ReflectiveOperationException missing) {
            return Executors.newFixedThreadPool(THREADS);
        }
    }

    private interface Route {
        Reply answer(HttpExchange exchange) throws Exception;
    }

    private static final class Reply {
        static final Reply NOT_FOUND = new Reply(404, "text/plain", "not found\n");
        final int status;
        final String type;
        final String body;

        Reply(int status, String type, String body) {
            this.status = status;
            this.type = type;
            this.body = body;
        }

        static Reply text(String body) {
            return new Reply(200, "text/plain", body);
        }

        static Reply json(String body) {
            return new Reply(200, "application/json", body);
        }
    }
}
