//! A TLS 1.3 client that counts exactly: what wrk and h2load cannot do (one full handshake per
//! request, bodies of many megabytes, thousands of idle connections). Started by load.py as
//!   dial handshakes|bulk|hold PORT PATH COUNT THREADS
//! and prints one JSON line. The client certificate comes from PEER_CERT and PEER_KEY; without them it
//! presents none, which is how the rig proves that a proxy requires one. It must never resume a
//! session, never retry, and never count an answer other than 200 as a success.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { BUFFER_BYTES = 65536, ANSWER_SECONDS = 30, FAILURES_BEFORE_GIVING_UP = 5 };
enum mode { HANDSHAKES, BULK, HOLD };

static enum mode mode;
static int port;
static const char *path;
static long count;
static SSL_CTX *context;
static SSL **held;
static atomic_long next_turn, ok, failed, tickets, resumed, body_bytes;
static pthread_mutex_t first_failure_lock = PTHREAD_MUTEX_INITIALIZER;
static char first_failure[200];

static void fail(const char *what) {
    pthread_mutex_lock(&first_failure_lock);
    if (failed++ == 0) {
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        snprintf(first_failure, sizeof first_failure, "%s%s%s", what, reason ? ": " : "", reason ? reason : "");
        for (char *c = first_failure; *c; c++)
            if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') *c = ' ';
    }
    pthread_mutex_unlock(&first_failure_lock);
    ERR_clear_error();
}

static int count_ticket(SSL *tls, SSL_SESSION *session) {
    (void)tls;
    (void)session;
    tickets++;
    return 0;
}

static int connected_socket(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    struct timeval wait = {.tv_sec = ANSWER_SECONDS};
    int on = 1, socket_number = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (socket_number < 0) return -1;
    setsockopt(socket_number, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(socket_number, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    setsockopt(socket_number, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(socket_number, (struct sockaddr *)&address, sizeof address) == 0) return socket_number;
    close(socket_number);
    return -1;
}

static void hang_up(SSL *tls) {
    int socket_number = SSL_get_fd(tls);
    SSL_shutdown(tls);
    SSL_free(tls);
    close(socket_number);
}

static SSL *dialled(void) {
    int socket_number = connected_socket();
    if (socket_number < 0) {
        fail("the proxy does not accept connections");
        return NULL;
    }
    SSL *tls = SSL_new(context);
    SSL_set_fd(tls, socket_number);
    SSL_set_tlsext_host_name(tls, "localhost");
    if (SSL_connect(tls) == 1) {
        if (SSL_session_reused(tls)) resumed++;
        return tls;
    }
    fail("the TLS handshake failed");
    SSL_free(tls);
    close(socket_number);
    return NULL;
}

/// Sends one GET and reads its whole answer, framed by Content-Length; returns 1 for a complete 200.
static int answered(SSL *tls, char *buffer) {
    int length = snprintf(buffer, BUFFER_BYTES, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s\r\n", path,
                          mode == HANDSHAKES ? "Connection: close\r\n" : "");
    if (SSL_write(tls, buffer, length) != length) return fail("the request could not be sent"), 0;
    int have = 0;
    char *end = NULL;
    while (!end) {
        int got = have < BUFFER_BYTES - 1 ? SSL_read(tls, buffer + have, BUFFER_BYTES - 1 - have) : 0;
        if (got <= 0) return fail("the connection ended before an answer"), 0;
        have += got;
        buffer[have] = 0;
        end = memmem(buffer, have, "\r\n\r\n", 4);
    }
    *end = 0;
    if (strncmp(buffer, "HTTP/1.1 200", 12) != 0) {
        char text[64];
        snprintf(text, sizeof text, "the answer was %.15s", buffer);
        return fail(text), 0;
    }
    char *field = strcasestr(buffer, "\r\ncontent-length:");
    if (!field) return fail("the answer had no Content-Length"), 0;
    long remaining = atol(field + 17), body = have - (end + 4 - buffer);
    body_bytes += body;
    for (remaining -= body; remaining > 0;) {
        int got = SSL_read(tls, buffer, BUFFER_BYTES);
        if (got <= 0) return fail("the body was cut short"), 0;
        remaining -= got;
        body_bytes += got;
    }
    ok++;
    return 1;
}

/// A turn is a connection in the modes `handshakes` and `hold`, and a request in the mode `bulk`.
static void *worker(void *unused) {
    (void)unused;
    char *buffer = malloc(BUFFER_BYTES);
    SSL *kept = NULL;
    for (long turn; (turn = next_turn++) < count && failed < FAILURES_BEFORE_GIVING_UP;) {
        SSL *tls = kept ? kept : dialled();
        kept = NULL;
        if (!tls) continue;
        int good = answered(tls, buffer);
        if (good && mode == HOLD) {
            held[turn] = tls;
        } else if (good && mode == BULK) {
            kept = tls;
        } else {
            // The proxy closes first, as it was asked to; waiting for it keeps its closing work inside the measure.
            while (good && SSL_read(tls, buffer, BUFFER_BYTES) > 0) continue;
            ERR_clear_error();
            hang_up(tls);
        }
    }
    if (kept) hang_up(kept);
    free(buffer);
    return NULL;
}

static void prepare_context(void) {
    const char *chain = getenv("PEER_CERT"), *key = getenv("PEER_KEY");
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION);
    SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256");
    SSL_CTX_set1_groups_list(context, "X25519");
    // Tickets are only counted, never used: the rig expects every proxy to send none.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, count_ticket);
    if (chain && key &&
        (SSL_CTX_use_certificate_chain_file(context, chain) != 1 ||
         SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1)) {
        fputs("dial: PEER_CERT and PEER_KEY must name a PEM chain and its key\n", stderr);
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fputs("usage: dial handshakes|bulk|hold PORT PATH COUNT THREADS\n", stderr);
        return 64;
    }
    mode = strcmp(argv[1], "hold") == 0 ? HOLD : strcmp(argv[1], "bulk") == 0 ? BULK : HANDSHAKES;
    port = atoi(argv[2]);
    path = argv[3];
    count = atol(argv[4]);
    int threads = atoi(argv[5]);
    signal(SIGPIPE, SIG_IGN);
    prepare_context();
    held = calloc(count + 1, sizeof *held);
    pthread_t *running = calloc(threads, sizeof *running);
    for (int i = 0; i < threads; i++) pthread_create(&running[i], NULL, worker, NULL);
    for (int i = 0; i < threads; i++) pthread_join(running[i], NULL);
    printf("{\"ok\": %ld, \"failed\": %ld, \"tickets\": %ld, \"resumed\": %ld, \"bytes\": %ld, \"first_failure\": \"%s\"}\n",
           ok, failed, tickets, resumed, body_bytes, first_failure);
    fflush(stdout);
    // Held connections live until the rig closes standard input, or is gone.
    if (mode == HOLD)
        while (getchar() != EOF) continue;
    return 0;
}
